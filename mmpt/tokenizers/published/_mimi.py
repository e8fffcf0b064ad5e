"""The codec of `Mimi`, and its sound in a stream."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, MimiModel

from mmpt.errors import CheckpointError
from mmpt.tokenizers.published._codec import SpeechCodec
from mmpt.tokenizers.published._loading import check_rate, whole_model
from mmpt.tokenizers.published.mimi import Mimi

_SECONDS, _HEARS = 30.0, 10.0  # longest window, and how much of what lies before it is encoded with it


class MimiCodec(SpeechCodec):
    """`MimiModel`. It is causal: what comes later changes neither a code nor a sample. Codes of audio longer than a window are
    made with the 10 s before it, as far as one of its layers looks back; its sound is exact at any length."""

    def __init__(self, settings: Mimi, folder: Path):
        model = whole_model(MimiModel, folder)
        figures = settings.figures(model.config.to_dict())
        if model.config.audio_channels != 1 or not model.config.use_causal_conv:
            raise CheckpointError(f"{folder}/config.json: expected one audio channel and causal convolutions, as Mimi has them")
        check_rate(folder, figures.sample_rate)
        frame_rate = figures.rate / figures.codebooks
        super().__init__(figures, round(_SECONDS * frame_rate), (round(_HEARS * frame_rate), 0), (0, 0))
        self.model: Any = model  # the types of its outputs are wider than what they hold

    def frames_of(self, samples: torch.Tensor) -> torch.Tensor:
        return self.model.encode(samples[:, None], num_quantizers=self.figures.codebooks).audio_codes

    def sound_of(self, frames: torch.Tensor) -> torch.Tensor:
        return self.model.decode(frames).audio_values[:, 0]

    def going_on(self) -> Callable[[np.ndarray, bool], np.ndarray]:
        return _Going(self.model, self.device)


class _Going:
    """The decoder's three parts one by one, each with what it needs of before: its upsampling the last frame, its transformer
    keys and values, its convolutions the last states that they reach back to."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._decoder = model.decoder
        self._cache = DynamicCache(config=model.config)
        self._reach = _reach(model.config)
        self._frames = torch.zeros((1, 0, 0))
        self._states = torch.zeros((1, 0, 0))

    def __call__(self, frames: np.ndarray, last: bool) -> np.ndarray:
        if not len(frames):
            return np.zeros(0, dtype=np.float32)
        with torch.inference_mode():
            codes = torch.from_numpy(frames).to(self._device).t()[None]
            new = self._states_of(self._model.quantizer.decode(codes))
            kept = torch.cat([self._states, new], dim=2) if self._states.numel() else new
            sound = self._decoder.decoder_seanet(kept)[0, 0]
            samples = new.shape[2] * (sound.shape[0] // kept.shape[2])
            self._states = kept[:, :, -self._reach :]
            return sound[-samples:].float().cpu().numpy()

    def _states_of(self, latents: torch.Tensor) -> torch.Tensor:
        before = torch.cat([self._frames, latents], dim=2) if self._frames.numel() else latents
        self._frames = latents[:, :, -1:]
        wide = self._decoder.upsample(before)
        wide = wide[:, :, wide.shape[2] // before.shape[2] * (before.shape[2] - latents.shape[2]) :]
        out = self._decoder.decoder_transformer(wide.transpose(1, 2), cache=self._cache, use_cache=True)
        return out.last_hidden_state.transpose(1, 2)


def _reach(config: Any) -> int:
    """States before its own that the convolutions make a sample of, from the last to the first."""
    reach, size = float(config.last_kernel_size - 1), 1  # in samples; `size`: samples of a state
    for ratio in reversed(config.upsampling_ratios):
        residual = sum(config.dilation_growth_rate**layer for layer in range(config.num_residual_layers))
        reach += (config.residual_kernel_size - 1) * residual * size
        size *= ratio
        reach += size  # a transposed convolution of twice its stride
    return math.ceil(reach / size) + config.kernel_size - 1
