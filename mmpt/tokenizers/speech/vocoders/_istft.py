"""The module of `Istft`: convolutional blocks at the frame rate, a linear head, an ISTFT; no upsampling layers, so it costs
little."""

import math

import torch
from torch import nn

from mmpt.layers.convolution import KERNEL, ConvBlock
from mmpt.layers.masks import length_mask
from mmpt.tokenizers.speech.features import compress, mel_power
from mmpt.tokenizers.speech.vocoder import VocoderBatch, VocoderModule, in_pieces
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.terms import Term

RESOLUTIONS = ((1024, 256), (512, 128), (256, 64))
"""(window, hop) in samples of the spectra that are compared in training."""


class IstftVocoder(VocoderModule[Istft]):
    """In `fit`, a training batch is a `VocoderBatch`."""

    window: torch.Tensor

    def __init__(self, config: Istft):
        super().__init__()
        self.config = config
        self.embed = nn.Conv1d(config.mels, config.dim, 7, padding=3)
        self.norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(ConvBlock(config.dim) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.window + 2))
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)

    def forward(self, mel: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms [frames · hop] in −1 … 1 of log-mels [B, T, mels], of which the first `frames` [B] are valid.

        A sample depends on the frames about it, at most 3 · (blocks + 1) and half a window away.
        """
        spectra = self.spectra(mel, length_mask(frames.to(mel.device), mel.shape[1])).float()
        return [self._samples(row[:, :length][None])[0] for row, length in zip(spectra, frames.tolist(), strict=True)]

    @property
    def reach(self) -> int:
        return (KERNEL // 2) * (self.config.blocks + 1) + self.config.window // 2 // self.hop + 1

    @property
    def period(self) -> int:
        """Frames after which all bins have run through whole turns: the net tells frames apart by their position modulo that."""
        return self.config.window // self.hop

    @torch.inference_mode()
    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        def speak(piece: torch.Tensor) -> torch.Tensor:
            return self(piece[None].to(self.window.device), torch.tensor([len(piece)]))[0]

        return in_pieces(mel, self.reach, self.period, self.hop, speak)

    def spectra(self, mel: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Complex spectra as [B, window / 2 + 1, T, 2] (real, imaginary); `mask` [B, T] says which frames are valid."""
        mask = mask[..., None]
        # Relative to bins that run on from frame to frame: else a sound that stays the same repeats with every frame.
        positions = torch.arange(mel.shape[1], device=mel.device) % self.period
        turns = torch.arange(self.config.window // 2 + 1, device=mel.device) * positions[:, None] * (2 * math.pi / self.period)
        x = self.norm(self.embed((mel * mask).to(self.embed.weight).transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x, mask)
        size, phase = self.head(x).float().chunk(2, dim=-1)
        size, phase = size.clamp_max(math.log(100.0)).exp(), phase + turns
        return torch.stack([size * phase.cos(), size * phase.sin()], dim=-1).transpose(1, 2)

    def made(self, batch: VocoderBatch) -> torch.Tensor:
        """What it speaks of a batch, as long as its samples."""
        mel = batch.mel.to(self.window.device)
        return self._samples(self.spectra(mel, torch.ones(mel.shape[:2], dtype=torch.bool, device=mel.device)).float())

    def compared(self, made: torch.Tensor, samples: torch.Tensor) -> dict[str, Term]:
        """Spectral convergence and distance of log magnitudes at each resolution, and the distance of log-mels, of [B, n]."""
        convergence, distance = zip(*(_compare(made, samples, *resolution) for resolution in RESOLUTIONS), strict=True)
        heard, wanted = (compress(mel_power(sound, self.config.mels, self.config.rate)) for sound in (made, samples))
        terms = {"convergence": sum(convergence) / 3, "distance": sum(distance) / 3, "mel": (heard - wanted).abs().mean()}
        weights = {"mel": 5.0}
        return {name: Term.mean(value, len(made), weights.get(name, 1.0)) for name, value in terms.items()}

    def loss(self, batch: VocoderBatch, progress: float) -> dict[str, Term]:
        return self.compared(self.made(batch), batch.samples.to(self.window.device))

    def _samples(self, spectra: torch.Tensor) -> torch.Tensor:
        """[B, T · hop] of spectra [B, window / 2 + 1, T, 2]; the last frame counts once more, behind the end."""
        spectra = torch.view_as_complex(torch.cat([spectra, spectra[:, :, -1:]], dim=2).contiguous())
        length = (spectra.shape[2] - 1) * self.hop
        return torch.istft(spectra, self.config.window, self.hop, window=self.window.float(), center=True, length=length).clamp(
            -1, 1
        )


def _compare(made: torch.Tensor, samples: torch.Tensor, window: int, hop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectral convergence and mean distance of log magnitudes of [B, samples] at one resolution."""
    shape = torch.hann_window(window, device=made.device)
    sizes = []
    for signal in (made, samples):
        spectrum = torch.view_as_real(torch.stft(signal, window, hop, window=shape, return_complex=True))
        sizes.append(spectrum.square().sum(dim=-1).clamp_min(1e-7).sqrt())
    one, other = sizes
    error = (one - other).square().sum(dim=(1, 2)).sqrt() / other.square().sum(dim=(1, 2)).sqrt().clamp_min(1e-3)
    return error.mean(), (one.log() - other.log()).abs().mean()
