"""Mels to sound: HiFTNet (Li et al. 2023, arXiv:2309.09493), a source of harmonics filtered by a network that ends in a spectrum.

After THUDM/GLM-4-Voice (cosyvoice/hifigan), for inference alone; parameters have the names of the released checkpoint, its weight
normalisation multiplied out (`folded`).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.published._flow_config import HiftShape, PitchShape


class Hift(nn.Module):
    """Mels and random numbers in, samples out."""

    stft_window: torch.Tensor

    def __init__(self, shape: HiftShape):
        super().__init__()
        self.shape, width, bins = shape, shape.base_channels, shape.istft_params.n_fft + 2
        self.f0_predictor = _Pitch(shape.f0_predictor)
        self.m_source = nn.ModuleDict({"l_linear": nn.Linear(shape.nb_harmonics + 1, 1)})
        self.conv_pre = nn.Conv1d(shape.in_channels, width, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        self.source_downs, self.source_resblocks = nn.ModuleList(), nn.ModuleList()
        sources = zip(shape.source_resblock_kernel_sizes, shape.source_resblock_dilation_sizes, strict=True)
        for number, ((rate, kernel), source) in enumerate(
            zip(zip(shape.upsample_rates, shape.upsample_kernel_sizes, strict=True), sources, strict=True)
        ):
            above, width = width, width // 2
            self.ups.append(nn.ConvTranspose1d(above, width, kernel, rate, padding=(kernel - rate) // 2))
            down = math.prod(shape.upsample_rates[number + 1 :])  # from the rate of spectra to that of this stage
            self.source_downs.append(
                nn.Conv1d(bins, width, 1) if down == 1 else nn.Conv1d(bins, width, 2 * down, down, padding=down // 2)
            )
            self.source_resblocks.append(_Residual(width, *source))
            for one, dilations in zip(shape.resblock_kernel_sizes, shape.resblock_dilation_sizes, strict=True):
                self.resblocks.append(_Residual(width, one, dilations))
        self.conv_post = nn.Conv1d(width, bins, 7, padding=3)
        self.register_buffer("stft_window", torch.hann_window(shape.istft_params.n_fft), persistent=False)

    def forward(self, mel: torch.Tensor, begun: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples [T · hop] in −1 … 1 of a mel [mels, T], and the source that they were made of [T · hop], whose first samples
        are those of `begun` [any length]: what a piece before this one had there. `draw` (of the CPU) gives phases and noise."""
        mel = mel[None]
        source = self._source(self.f0_predictor(mel)[0], draw)
        source = torch.cat([begun, source[len(begun) :]])
        return self._filtered(mel, source).clamp(-self.shape.audio_limit, self.shape.audio_limit), source

    def _source(self, pitch: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """[T · hop] of the Hz of each frame [T]: harmonics in noise where it is voiced, noise elsewhere."""
        shape = self.shape
        pitch = pitch.repeat_interleave(shape.hop)
        harmonics = torch.arange(1, shape.nb_harmonics + 2, device=pitch.device)[:, None]
        turns = torch.cumsum(pitch * harmonics / shape.sampling_rate, dim=1) % 1
        phases = (2 * torch.rand(len(harmonics), 1, generator=draw) - 1) * math.pi
        phases[0] = 0
        noise = torch.randn(turns.shape, generator=draw).to(pitch.device)
        voiced = (pitch > shape.nsf_voiced_threshold).float()
        waves = shape.nsf_alpha * torch.sin(2 * math.pi * turns + phases.to(pitch.device)) * voiced
        waves = waves + (voiced * shape.nsf_sigma + (1 - voiced) * shape.nsf_alpha / 3) * noise
        return torch.tanh(self.m_source["l_linear"](waves.T))[:, 0]

    def _filtered(self, mel: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Samples [T · hop] of a mel [1, mels, T] and its source."""
        size, hop, window = self.shape.istft_params.n_fft, self.shape.istft_params.hop_len, self.stft_window
        spectrum = torch.view_as_real(torch.stft(source, size, hop, window=window, return_complex=True))
        spectrum = spectrum.permute(2, 0, 1).flatten(0, 1)[None]  # real parts, then imaginary ones
        x, kernels = self.conv_pre(mel), len(self.shape.resblock_kernel_sizes)
        for number, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.shape.lrelu_slope))
            if number == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")  # a spectrum more than hops
            x = x + self.source_resblocks[number](self.source_downs[number](spectrum))
            blocks = self.resblocks[number * kernels : (number + 1) * kernels]
            x = sum((block(x) for block in blocks), torch.zeros_like(x)) / kernels
        magnitude, phase = self.conv_post(F.leaky_relu(x))[0].split(size // 2 + 1)
        spectrum = torch.polar(magnitude.exp().clamp(max=100), torch.sin(phase))
        return torch.istft(spectrum, size, hop, window=window)


class _Pitch(nn.Module):
    """The pitch of each frame in Hz, [B, T] of a mel [B, mels, T]."""

    def __init__(self, shape: PitchShape):
        super().__init__()
        widths, layers = [shape.in_channels, *[shape.cond_channels] * 5], []
        for into, width in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv1d(into, width, 3, padding=1), nn.ELU()]
        self.condnet, self.classifier = nn.Sequential(*layers), nn.Linear(shape.cond_channels, 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.condnet(mel).transpose(1, 2))[..., 0].abs()


class _Residual(nn.Module):
    """Pairs of convolutions, the first of each dilated, behind periodic activations."""

    def __init__(self, width: int, kernel: int, dilations: list[int]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(width, width, kernel, dilation=one, padding=(kernel - 1) * one // 2) for one in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2) for _ in dilations)
        self.activations1 = nn.ModuleList(_Snake(width) for _ in dilations)
        self.activations2 = nn.ModuleList(_Snake(width) for _ in dilations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for first, dilated, second, plain in pairs:
            x = x + plain(second(dilated(first(x))))
        return x


class _Snake(nn.Module):
    """x + sin²(αx) ÷ α (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[:, None]
        return x + torch.sin(x * alpha).square() / (alpha + 1e-9)


def folded(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`tensors` with a weight for each pair of length (`weight_g`) and direction (`weight_v`) (Salimans & Kingma 2016,
    arXiv:1602.07868)."""
    found = {}
    for name, value in tensors.items():
        place, _, last = name.rpartition(".")
        if last == "weight_v" and f"{place}.weight_g" in tensors:
            found[f"{place}.weight"] = value * (tensors[f"{place}.weight_g"] / value.norm(dim=(1, 2), keepdim=True))
        elif not (last == "weight_g" and f"{place}.weight_v" in tensors):
            found[name] = value
    return found
