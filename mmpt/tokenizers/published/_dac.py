"""The codec of `Dac`."""

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DacConfig, DacModel

from mmpt.tokenizers.published._codec import SpeechCodec
from mmpt.tokenizers.published._loading import check_rate, whole_model
from mmpt.tokenizers.published.dac import Dac

_SECONDS = 30.0  # longest window


class DacCodec(SpeechCodec):
    """`DacModel`: convolutions that see both sides, so windows overlap by as much as they reach."""

    def __init__(self, settings: Dac, folder: Path):
        model = whole_model(DacModel, folder)
        figures = settings.figures(model.config.to_dict())
        check_rate(folder, figures.sample_rate)
        reach = _reach(model.config)
        window = round(_SECONDS * figures.rate / figures.codebooks)
        super().__init__(figures, window, (reach, reach), (reach, reach))
        self.model: Any = model  # the types of its outputs are wider than what they hold

    def frames_of(self, samples: torch.Tensor) -> torch.Tensor:
        padded = F.pad(samples, (0, -samples.shape[1] % self.hop))
        return self.model.encode(padded[:, None], n_quantizers=self.figures.codebooks).audio_codes

    def sound_of(self, frames: torch.Tensor) -> torch.Tensor:
        return self.model.decode(audio_codes=frames).audio_values


def _reach(config: DacConfig) -> int:
    """Frames to either side that sound, and a code, can depend on: of the decoder, from the last convolution to the first. The
    encoder is its mirror image."""
    reach, size = 3.0, 1  # in samples: the last convolution; `size`: samples of a state
    for stride in config.downsampling_ratios:
        reach += sum(3 * dilation for dilation in (1, 3, 9)) * size
        size *= stride
        reach += 2 * size  # a transposed convolution of twice its stride
    return math.ceil((reach + 3 * size) / size)
