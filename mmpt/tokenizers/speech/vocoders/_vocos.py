"""The module of `Vocos`, under the names that its checkpoints have.

Its log-mel is another one than ours: a Hann window of 1024 samples at 24 kHz every 256, bands of HTK's scale from 0 to 12 kHz
that are not of equal area, the natural log of magnitudes (as `torchaudio.transforms.MelSpectrogram` makes it with power=1).
"""

import math
from pathlib import Path
from typing import Any

import torch
import torchaudio
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from mmpt.errors import CheckpointError, ConfigError
from mmpt.tokenizers.speech.features import magnitudes
from mmpt.tokenizers.speech.vocoder import VocoderModule, in_pieces
from mmpt.tokenizers.speech.vocoders.vocos import Vocos

FLOOR = 1e-7
KERNEL = 7
LARGEST = 100.0  # magnitude
WEIGHTS = "model.safetensors"


class _Block(nn.Module):
    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))).transpose(1, 2)


class _Backbone(nn.Module):
    def __init__(self, config: Vocos):
        super().__init__()
        self.embed = nn.Conv1d(config.bands_of_its_own, config.dim, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.convnext = nn.ModuleList(_Block(config.dim, config.inner) for _ in range(config.layers))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)


class _Head(nn.Module):
    def __init__(self, config: Vocos):
        super().__init__()
        self.out = nn.Linear(config.dim, config.window + 2)


class VocosVocoder(VocoderModule[Vocos]):
    """Random weights until they are loaded; `published` takes the published ones."""

    def __init__(self, config: Vocos):
        super().__init__()
        self.config = config
        self.backbone, self.head = _Backbone(config), _Head(config)

    @property
    def period(self) -> int:
        """Of our frames: after so many, both fall on the same sample again."""
        return self.config.hop // math.gcd(self.config.hop, self.hop)

    @property
    def reach(self) -> int:
        shape = self.config
        theirs = KERNEL // 2 * (shape.layers + 1) + shape.window / 2 / shape.hop + 1
        return math.ceil(theirs * shape.hop / self.hop) + 1

    @torch.inference_mode()
    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        weight = self.head.out.weight

        def speak(piece: torch.Tensor) -> torch.Tensor:
            return self(vocos_log_mel(piece.to(weight.device), self.config).to(weight))[: len(piece) * self.hop]

        return in_pieces(mel, self.reach, self.period, self.hop, speak)

    def forward(self, own: torch.Tensor) -> torch.Tensor:
        """The waveform [(T - 1) · hop] of its own log-mel [T, bands_of_its_own]."""
        x = self.backbone.norm(self.backbone.embed(own.t()[None]).transpose(1, 2)).transpose(1, 2)
        for block in self.backbone.convnext:
            x = block(x)
        x = self.head.out(self.backbone.final_layer_norm(x.transpose(1, 2))).float()
        size, phase = x.transpose(1, 2).chunk(2, dim=1)
        spectrum = torch.polar(size.exp().clamp_max(LARGEST), phase)
        window = torch.hann_window(self.config.window, device=own.device)
        return torch.istft(spectrum, self.config.window, self.config.hop, window=window)[0].clamp(-1, 1)


def vocos_log_mel(mel: torch.Tensor, config: Vocos) -> torch.Tensor:
    """Its log-mel [frames, bands_of_its_own] of our `mel` [T, mels], frame j centred on sample hop · j, one frame at least beyond
    the last sample."""
    beyond = F.pad(mel.t(), (0, 2 * math.ceil(config.hop * 100 / config.rate)), "replicate").t()
    found = magnitudes(beyond, config.rate, config.window, config.hop)
    size, highest = config.window // 2 + 1, config.rate / 2
    filters = torchaudio.functional.melscale_fbanks(size, 0.0, highest, config.bands_of_its_own, config.rate, None, "htk")
    return (found @ filters.to(mel.device)).clamp_min(FLOOR).log()


def published(name: str, content: dict[str, Any], mels: int) -> VocosVocoder:
    """The Vocos of a folder `name`, whose config.yaml is `content`, in eval mode, for log-mels of `mels` bands.

    Raises `ConfigError` naming what does not fit, and `CheckpointError` where weights are missing or damaged.
    """
    features, backbone, head = (content.get(part, {}).get("init_args", {}) for part in ("feature_extractor", "backbone", "head"))
    if "adanorm_num_embeddings" in backbone or content["head"].get("class_path", "").rpartition(".")[2] != "ISTFTHead":
        raise ConfigError(f"{name}: no vocoder that can be used here: a VocosBackbone of log-mels with an ISTFTHead is")
    try:
        shape = {
            "rate": features["sample_rate"], "bands_of_its_own": features["n_mels"], "window": head["n_fft"],
            "hop": head["hop_length"], "dim": backbone["dim"], "inner": backbone["intermediate_dim"],
            "layers": backbone["num_layers"],
        }  # fmt: skip
    except KeyError as problem:
        raise ConfigError(f"{name}/config.yaml: {problem} is missing") from None
    vocoder = VocosVocoder(Vocos(mels=mels, **shape))
    # Filters and windows are computed here.
    weights = {
        k: v for k, v in _weights(Path(name)).items() if not k.startswith("feature_extractor.") and k != "head.istft.window"
    }
    try:
        vocoder.load_state_dict(weights)
    except RuntimeError as problem:
        raise CheckpointError(f"{name}: its weights do not fit its config.yaml ({problem})") from None
    return vocoder.eval()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{folder}: no {WEIGHTS}; a pytorch_model.bin is a pickle and not read, save what it holds as that")
    try:
        return load_file(file)
    except SafetensorError as problem:
        raise CheckpointError(f"{file} cannot be read ({problem})") from None
