"""The codec of `Glm4Voice`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mmpt.errors import CheckpointError, DataError
from mmpt.kernels.nearest_code import nearest_code
from mmpt.storage import read_json
from mmpt.tokenizers.published._codec import SpeechCodec
from mmpt.tokenizers.published._flow_decoder import CONFIG, FlowDecoder, GoingOn, flow_decoder
from mmpt.tokenizers.published._loading import check_rate, load_tensors, tensors_under
from mmpt.tokenizers.published.glm4_voice import Glm4Voice

_SECONDS = 30  # of a window: what is longer is cut there, without overlap, as GLM-4-Voice does


class Glm4VoiceCodec(SpeechCodec):
    """Whisper's encoder up to the quantiser, with causal convolutions and attention that sees its own block and what lies before:
    after THUDM/GLM-4-Voice, speech_tokenizer/modeling_whisper.py. Sound by its flow decoder, where it was imported."""

    one_voice = "GLM-4-Voice's decoder has one voice"
    together = 1  # it has pieces of its own

    def __init__(self, settings: Glm4Voice, folder: Path):
        config = read_json(folder / "config.json", CheckpointError)
        figures = settings.figures(config)
        check_rate(folder, figures.sample_rate)
        super().__init__(figures, round(_SECONDS * figures.rate), (0, 0), (0, 0))
        shape = WhisperConfig.from_dict({**config, "encoder_layers": config.get("quantize_position", 16)})
        shape._attn_implementation = "sdpa"  # takes masks of true and false
        self.pool, self.maximum = config.get("pooling_kernel_size") or 1, config.get("pooling_type", "max") == "max"
        self.block, self.causal = config.get("quantize_causal_block_size"), config.get("encoder_causal_convolution", False)
        self.whisper: Any = WhisperEncoder(shape)
        self.whisper.layer_norm = nn.Identity()  # behind the last layer, of which nothing is read
        self.codebook = nn.Embedding(figures.codes, shape.d_model)
        tensors = tensors_under(folder, ("model.encoder.", "encoder."))
        named = {name if name.startswith("codebook.") else f"whisper.{name}": value for name, value in tensors.items()}
        load_tensors(self, named, folder)
        has_own = (folder / "preprocessor_config.json").is_file()
        self.features = (
            WhisperFeatureExtractor.from_pretrained(str(folder))
            if has_own
            else WhisperFeatureExtractor(feature_size=shape.num_mel_bins)
        )
        self.decoder: FlowDecoder | None = None
        self.silent = "codes of GLM-4-Voice cannot be spoken without its decoder: import it with published.decoder=FOLDER"
        if (folder / CONFIG).is_file():
            self.decoder, self.silent = flow_decoder(folder, figures.codes), ""
        self.eval()

    @property
    def sound_rate(self) -> int:
        return self.decoder.sound_rate if self.decoder else self.sample_rate

    def frames_of(self, samples: torch.Tensor) -> torch.Tensor:
        found = self.features(
            list(samples.cpu().numpy()),
            sampling_rate=self.sample_rate,
            return_attention_mask=True,
            return_tensors="pt",
            padding="longest",
            pad_to_multiple_of=self.hop,
        )
        states = self._states(found["input_features"].to(self.device), found["attention_mask"].to(self.device).bool())
        codes = nearest_code(states.reshape(-1, states.shape[2]), self.codebook.weight)
        return codes.view(len(states), 1, -1)

    def sound_of(self, frames: torch.Tensor) -> torch.Tensor:
        sounds = [self.going_on()(row, True) for row in frames.transpose(1, 2).cpu().numpy()]
        return torch.from_numpy(np.stack(sounds))

    def going_on(self) -> Callable[[np.ndarray, bool], np.ndarray]:
        if self.decoder is None:
            raise DataError(self.silent)
        return GoingOn(self.decoder, self.device)

    def _states(self, mel: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, codes, dim] of log-mels [B, bands, frames], of sound where `heard` [B, frames]."""
        x = F.gelu(self._convolve(self.whisper.conv1, mel))
        x = F.gelu(self._convolve(self.whisper.conv2, x)).transpose(1, 2)
        x = x + self.whisper.embed_positions.weight[: x.shape[1]]
        seen = heard[:, None, None, :: self.whisper.conv2.stride[0]].expand(-1, 1, x.shape[1], -1)
        if self.block is not None:
            block = torch.arange(x.shape[1], device=x.device) // self.block
            seen = seen & (block <= block[:, None])
        for layer in self.whisper.layers:
            out = layer(x, attention_mask=seen)
            x = out[0] if isinstance(out, tuple) else out
        x = x.transpose(1, 2)
        x = F.max_pool1d(x, self.pool) if self.maximum else F.avg_pool1d(x, self.pool)
        return x.transpose(1, 2)

    def _convolve(self, layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        kernel = layer.kernel_size[0]
        padding = (kernel - 1, 0) if self.causal else (kernel // 2, kernel // 2)
        return F.conv1d(F.pad(x, padding), layer.weight, layer.bias, layer.stride)
