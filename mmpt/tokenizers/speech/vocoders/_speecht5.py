"""The module of `SpeechT5`.

Its log-mel is another one than ours: a Hann window of 64 ms every 16 ms, log10 of magnitudes rather than of powers, bands from
80 to 7600 Hz (as `transformers.SpeechT5FeatureExtractor` computes it). Ours is turned into it by way of the linear spectrum.
"""

import math
from typing import Any, cast

import torch
import torchaudio
import transformers  # which imports the model where it is named
from safetensors import SafetensorError

from mmpt.errors import CheckpointError, ConfigError
from mmpt.modality import SAMPLE_RATE
from mmpt.tokenizers.speech.constants import HOP
from mmpt.tokenizers.speech.features import magnitudes
from mmpt.tokenizers.speech.vocoder import VocoderModule, in_pieces
from mmpt.tokenizers.speech.vocoders.speecht5 import SpeechT5

BANDS = 80
LENGTH = 1024  # window of SpeechT5's analysis in samples
STEP = 256  # samples from one of its frames to the next
LOWEST, HIGHEST = 80.0, 7600.0  # Hz
FLOOR = 1e-10


class SpeechT5Vocoder(VocoderModule[SpeechT5]):
    """Random weights until they are loaded; `published` takes the published ones."""

    def __init__(self, config: SpeechT5):
        super().__init__()
        self.config = config
        self.model = transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**config.architecture))

    @property
    def period(self) -> int:
        """Of our frames: 5 of SpeechT5's, after which both fall on the same sample again."""
        return STEP * 5 // HOP

    @property
    def reach(self) -> int:
        shape = self.model.config
        kernels = zip(shape.resblock_kernel_sizes, shape.resblock_dilation_sizes, strict=True)
        block = max(size // 2 * (sum(dilations) + len(dilations)) for size, dilations in kernels)
        frames, samples = 7 // 2, 1  # samples for each frame as it goes up
        for rate, kernel in zip(shape.upsample_rates, shape.upsample_kernel_sizes, strict=True):
            frames += kernel / rate / samples
            samples *= rate
            frames += block / samples
        return math.ceil((frames + 1) * STEP / HOP) + 1

    @torch.inference_mode()
    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        device = self.model.mean.device

        def speak(piece: torch.Tensor) -> torch.Tensor:
            return self.model(speecht5_log_mel(piece.to(device)))[: len(piece) * HOP]

        return in_pieces(mel, self.reach, self.period, HOP, speak)


def published(name: str, content: dict[str, Any], mels: int) -> SpeechT5Vocoder:
    """The `SpeechT5HifiGan` of a folder or Hugging Face `name`, whose config.json is `content`, in eval mode, for log-mels of
    `mels` bands.

    Raises `ConfigError` naming all that does not fit, and `CheckpointError` where weights are missing.
    """
    if problems := _problems(content):
        raise ConfigError("\n  ".join([f"{name}: no vocoder that can be used here", *problems]))
    try:
        loaded = transformers.SpeechT5HifiGan.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as problem:
        raise ConfigError(f"{name}: its weights cannot be loaded; safetensors alone are read ({problem})") from None
    model, found = cast(tuple[transformers.SpeechT5HifiGan, dict[str, Any]], loaded)  # two, with output_loading_info
    if found["missing_keys"]:
        raise CheckpointError(f"{name}: weights missing: {', '.join(sorted(found['missing_keys']))}")
    vocoder = SpeechT5Vocoder(SpeechT5(mels=mels, architecture=model.config.to_dict()))
    vocoder.model.load_state_dict(model.state_dict())
    return vocoder.eval()


def speecht5_log_mel(mel: torch.Tensor) -> torch.Tensor:
    """SpeechT5's log-mel [ceil(T · 160 / 256), 80] of our `mel` [T, mels], frame j centred on sample 256 · j; on speech the two
    differ by about a tenth of a decade."""
    found = magnitudes(mel, SAMPLE_RATE, LENGTH, STEP)
    filters = torchaudio.functional.melscale_fbanks(LENGTH // 2 + 1, LOWEST, HIGHEST, BANDS, SAMPLE_RATE, "slaney", "slaney")
    return (found @ filters.to(mel.device)).clamp_min(FLOOR).log10()


def _problems(content: dict) -> list[str]:
    found = {
        "sampling_rate": (content.get("sampling_rate", SAMPLE_RATE), SAMPLE_RATE),
        "model_in_dim": (content.get("model_in_dim", BANDS), BANDS),
        "product of upsample_rates, the hop": (math.prod(content.get("upsample_rates", (STEP,))), STEP),
    }
    return [f"{key}: {value}, expected {expected}" for key, (value, expected) in found.items() if value != expected]
