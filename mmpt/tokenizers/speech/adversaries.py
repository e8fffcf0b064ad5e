"""What tells a vocoder's sound from a recording, and so teaches it what no distance of spectra says: discriminators by period
(HiFi-GAN, Kong et al. 2020, arXiv:2010.05646, sections 2.3 and 2.4) and by resolution (of complex spectra, as in DAC, Kumar et
al. 2023, arXiv:2306.06546, section 3.3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mmpt.tokenizers.adversaries import Judges, Looked
from mmpt.tokenizers.speech.config import AdversariesConfig
from mmpt.tokenizers.terms import Term

PERIODS = (2, 3, 5, 7, 11)
"""Every so many samples are looked at together."""
RESOLUTIONS = ((1536, 384), (768, 192), (384, 96))
"""(window, hop) in samples of the spectra that are looked at."""
FOOLING, FEATURES = 0.5, 5.0  # weights beside those of `IstftVocoder.loss`; HiFi-GAN's in relation to its log-mel's 45
_SLOPE = 0.1


class Adversaries(Judges):
    """All of them. `terms` is what both sides learn from a batch, by one optimizer."""

    def __init__(self, config: AdversariesConfig):
        by_period = (ByPeriod(period, config.channels) for period in PERIODS)
        by_resolution = (ByResolution(*resolution, config.channels) for resolution in RESOLUTIONS)
        super().__init__([*by_period, *by_resolution], "least_squares")
        self.config = config

    def terms(self, made: Tensor, samples: Tensor) -> dict[str, Term]:
        """Of sound that was `made` [B, n] of the log-mel of `samples` [B, n]: `adversaries` teaches these modules alone,
        `fooling` and `features` what made it."""
        told, fooled, features = self.judged(made, samples)
        means = {"adversaries": (told, 1.0), "fooling": (fooled, FOOLING), "features": (features, FEATURES)}
        return {name: Term.mean(mean, len(made), weight) for name, (mean, weight) in means.items()}


class ByPeriod(nn.Module):
    """Convolutions over every `period`-th sample."""

    def __init__(self, period: int, channels: int):
        super().__init__()
        self.period = period
        widths = [1, channels, 4 * channels, 8 * channels, 16 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(one, other, 5, stride=3, padding=2)) for one, other in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, samples: Tensor) -> Looked:
        x = F.pad(samples, (0, -samples.shape[1] % self.period), "reflect")
        x = x.unflatten(1, (-1, self.period)).transpose(1, 2).flatten(0, 1)[:, None]  # [B · period, 1, n ÷ period]
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        return self.out(x).unflatten(0, (-1, self.period)).flatten(1), features


class ByResolution(nn.Module):
    """Convolutions over a complex spectrum."""

    window: Tensor

    def __init__(self, window: int, hop: int, channels: int):
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        widths = [2, channels, channels, 2 * channels, 2 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(one, other, (9, 3), stride=(2, 1), padding=(4, 1)))
            for one, other in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, samples: Tensor) -> Looked:
        window = self.window
        spectrum = torch.stft(samples, len(window), self.hop, window=window, normalized=True, return_complex=True)
        x = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        return self.out(x).flatten(1), features
