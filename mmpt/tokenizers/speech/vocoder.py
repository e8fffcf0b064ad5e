"""Log-mel → waveform by a network that predicts a spectrum, magnitude and phase, and one inverse Fourier transform.

The shape is Vocos' (Siuzdak 2023): convolutional blocks at the frame rate, a linear head, an ISTFT; no upsampling layers, so it
costs little. Trained on spectra of several resolutions (Parallel WaveGAN, Yamamoto et al. 2020, eq. 5 to 7) without adversaries.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.speech.config import HOP, VocoderConfig
from mmpt.tokenizers.speech.features import compress, log_mel, mel_power
from mmpt.tokenizers.speech.layers import KERNEL, ConvBlock, length_mask
from mmpt.tokenizers.terms import Term, Trainable

FORMAT = "mmpt-vocoder/1"
RESOLUTIONS = ((1024, 256), (512, 128), (256, 64))
"""(window, hop) in samples of the spectra that are compared in training."""
PIECE = 3000
"""Frames that are spoken at once."""


class VocoderBatch(NamedTuple):
    """`mel` [B, crop, mels] and the `samples` [B, crop · HOP] that it is of."""

    mel: torch.Tensor
    samples: torch.Tensor


class Vocoder(Trainable):
    """In `fit`, a training batch is a `VocoderBatch`."""

    def __init__(self, config: VocoderConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Conv1d(config.mels, config.dim, 7, padding=3)
        self.norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(ConvBlock(config.dim) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.window + 2))
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)

    def forward(self, mel: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms [frames · HOP] in −1 … 1 of log-mels [B, T, mels], of which the first `frames` [B] are valid.

        A sample depends on the frames about it, at most 3 · (blocks + 1) and half a window away.
        """
        spectra = self.spectra(mel, length_mask(frames.to(mel.device), mel.shape[1])).float()
        return [self._samples(row[:, :length][None])[0] for row, length in zip(spectra, frames.tolist(), strict=True)]

    @property
    def reach(self) -> int:
        """How many frames to either side a sample depends on."""
        return (KERNEL // 2) * (self.config.blocks + 1) + self.config.window // 2 // HOP + 1

    @property
    def period(self) -> int:
        """Frames after which all bins have run through whole turns: the net tells frames apart by their place modulo that."""
        return self.config.window // HOP

    @torch.inference_mode()
    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        """The waveform [T · HOP] of a log-mel [T, mels] of any length, in overlapping pieces."""

        def speak(piece: torch.Tensor) -> torch.Tensor:
            return self(piece[None].to(self.window.device), torch.tensor([len(piece)]))[0]

        return in_pieces(mel, self.reach, self.period, speak)

    def spectra(self, mel: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Complex spectra as [B, window / 2 + 1, T, 2] (real, imaginary); `mask` [B, T] says which frames are valid."""
        mask = mask[..., None]
        # Relative to bins that run on from frame to frame: else a sound that stays the same repeats with every frame.
        places = torch.arange(mel.shape[1], device=mel.device) % self.period
        turns = torch.arange(self.config.window // 2 + 1, device=mel.device) * places[:, None] * (2 * math.pi / self.period)
        x = self.norm(self.embed((mel * mask).transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x, mask)
        size, phase = self.head(x).chunk(2, dim=-1)
        size, phase = size.clamp_max(math.log(100.0)).exp(), phase + turns
        return torch.stack([size * phase.cos(), size * phase.sin()], dim=-1).transpose(1, 2)

    def loss(self, batch: VocoderBatch, progress: float) -> dict[str, Term]:
        """Spectral convergence and distance of log magnitudes at each resolution, and the distance of log-mels."""
        mel, samples = batch.mel.to(self.window.device), batch.samples.to(self.window.device)
        made = self._samples(self.spectra(mel, torch.ones(mel.shape[:2], dtype=torch.bool, device=mel.device)).float())
        convergence, distance = zip(*(_compare(made, samples, *resolution) for resolution in RESOLUTIONS), strict=True)
        heard = compress(mel_power(made, self.config.mels)[:, : mel.shape[1]])
        terms = {"convergence": sum(convergence) / 3, "distance": sum(distance) / 3, "mel": (heard - mel).abs().mean()}
        weights = {"mel": 5.0}
        return {name: Term.mean(value, len(mel), weights.get(name, 1.0)) for name, value in terms.items()}

    def save(self, folder: Path) -> None:
        """Write config and weights to `folder`, atomically."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", self.config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Vocoder":
        """The vocoder saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not whole."""
        folder = Path(folder)
        check_folder(folder, FORMAT)
        vocoder = cls(parse_config(read_json(folder / "config.json", CheckpointError), VocoderConfig, f"{folder}/config.json"))
        try:
            vocoder.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}/model.safetensors does not fit config.json ({problem})") from None
        return vocoder.eval()

    def _samples(self, spectra: torch.Tensor) -> torch.Tensor:
        """[B, T · HOP] of spectra [B, window / 2 + 1, T, 2]; the last frame counts once more, behind the end."""
        spectra = torch.view_as_complex(torch.cat([spectra, spectra[:, :, -1:]], dim=2).contiguous())
        length = (spectra.shape[2] - 1) * HOP
        return torch.istft(spectra, self.config.window, HOP, window=self.window, center=True, length=length).clamp(-1, 1)


def in_pieces(mel: torch.Tensor, reach: int, period: int, speak: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """What `speak` makes of the whole of `mel` [T, mels], [T · HOP], of pieces that overlap by `reach` frames and begin at a
    multiple of `period`."""
    found = []
    for start in range(0, len(mel), PIECE):
        origin = max(0, start - reach) // period * period
        samples = speak(mel[origin : start + PIECE + reach])
        found.append(samples[(start - origin) * HOP :][: PIECE * HOP])
    return torch.cat(found) if found else torch.zeros(0)


class Plan(Protocol):
    """What is needed of a fit configuration."""

    batch_size: int
    seed: int


def vocoder_batches(waveforms: Sequence[np.ndarray], config: VocoderConfig, fit: Plan) -> Callable[[int, int, int], VocoderBatch]:
    """(step, rank, ranks) → that rank's share of the step's batch: crops of the waveforms (float32 [samples], 16 kHz), each as
    likely as it is long, at another level each time.

    Raises `DataError` where there is no sound.
    """
    if not waveforms:
        raise DataError("no speech to train a vocoder on")
    size = config.crop * HOP
    edges = np.cumsum([len(samples) for samples in waveforms])

    def crop(random: np.random.Generator) -> torch.Tensor:
        samples = waveforms[int(np.searchsorted(edges, random.integers(edges[-1]), side="right"))]
        start = int(random.integers(max(1, len(samples) - size + 1)))
        piece = samples[start : start + size] * 10 ** (random.uniform(-6, 6) / 20)
        return torch.from_numpy(np.pad(piece, (0, size - len(piece))).clip(-1, 1).astype(np.float32))

    def batch(step: int, rank: int = 0, ranks: int = 1) -> VocoderBatch:
        share = fit.batch_size // ranks
        places = range(rank * share, (rank + 1) * share)
        samples = torch.stack([crop(np.random.default_rng([fit.seed, step, place])) for place in places])
        return VocoderBatch(log_mel(samples, config.mels, config.crop), samples)

    return batch


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
