"""The codec of `XCodec2`."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor

from mmpt.errors import ConfigError
from mmpt.tokenizers.published._codec import SpeechCodec
from mmpt.tokenizers.published._loading import check_rate, whole_model
from mmpt.tokenizers.published.x_codec2 import XCodec2

try:
    from transformers import Xcodec2FeatureExtractor, Xcodec2Model
except ImportError as problem:
    raise ConfigError("published.kind x_codec2: this transformers has no Xcodec2Model (pip install -U transformers)") from problem

_SECONDS, _OVERLAP = 30.0, 2.0  # longest window; attention sees all of it, so the overlap is a choice


class XCodec2Codec(SpeechCodec):
    """`Xcodec2Model` with its own features. Attention sees a whole window: codes of what is longer depend on where it is cut."""

    def __init__(self, settings: XCodec2, folder: Path):
        model = whole_model(Xcodec2Model, folder)
        figures = settings.figures(model.config.to_dict())
        check_rate(folder, figures.sample_rate)
        overlap = round(_OVERLAP * figures.rate)
        super().__init__(figures, round(_SECONDS * figures.rate), (overlap, overlap), (overlap, overlap))
        self.model: Any = model  # the types of its outputs are wider than what they hold
        self.features = Xcodec2FeatureExtractor(sampling_rate=figures.sample_rate, hop_length=self.hop)
        if (folder / "preprocessor_config.json").is_file():
            self.features = AutoFeatureExtractor.from_pretrained(str(folder))

    def frames_of(self, samples: torch.Tensor) -> torch.Tensor:
        found = self.features(list(samples.cpu().numpy()), sampling_rate=self.sample_rate, return_tensors="pt")
        return self.model.encode(**{name: value.to(self.device) for name, value in found.items()}).audio_codes

    def sound_of(self, frames: torch.Tensor) -> torch.Tensor:
        return self.model.decode(audio_codes=frames).audio_values[:, 0]
