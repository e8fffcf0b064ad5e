"""Bytes of a picture or a sound to what a frozen encoder takes, and how many rows come of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

from mmpt.data.feature_rows import MediumRows, PictureRows, SpeechRows
from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech
from mmpt.modality import SAMPLE_RATE
from mmpt.model.config import FeatureInputConfig, PictureFeaturesConfig
from mmpt.tokenizers.image.pixels import picture_bytes, to_pixels

Reader = Callable[[bytes | None], Tensor]


def reader(config: FeatureInputConfig, encoder: Any) -> Reader:
    """Bytes of a medium to what `encoder` takes of each view of it, [views, …]; None to one view, a blank one."""
    return _pictures(config, config.encoder) if isinstance(config.encoder, PictureFeaturesConfig) else _sounds(encoder)


def counted(config: FeatureInputConfig, encoder: Any, rows: int, whole: int | None = None) -> MediumRows:
    """The rows of each medium, where a view has so many, and the `whole` picture behind its tiles so many, if others."""
    if isinstance(config.encoder, PictureFeaturesConfig):
        return PictureRows(rows=rows, whole=whole, side=config.encoder.side, tiles=config.tiles)
    if not config.by_duration:
        return SpeechRows(rows=rows)
    _, length = _window(encoder, _extractor(encoder))
    return SpeechRows(rows=rows, seconds=length / SAMPLE_RATE)


def _pictures(config: FeatureInputConfig, encoder: PictureFeaturesConfig) -> Reader:
    side, tiles = encoder.side, config.tiles

    def read(data: bytes | None) -> Tensor:
        if data is None:
            return torch.zeros(1, 3, side, side)
        picture = decode_image(data)
        views = [picture] if tiles is None else tiles.cut(picture, side)
        return to_pixels(np.stack([picture_bytes(view, side) for view in views]))

    return read


def _sounds(encoder: Any) -> Reader:
    extractor = _extractor(encoder)
    frames, length = _window(encoder, extractor)

    def read(data: bytes | None) -> Tensor:
        if data is None:
            return torch.zeros(1, encoder.model.config.num_mel_bins, frames)
        samples = decode_speech(data, SAMPLE_RATE)
        if len(samples) > length:
            raise DataError(
                f"{len(samples) / SAMPLE_RATE:.1f} s of sound, its encoder takes {length / SAMPLE_RATE:.1f} s at most"
            )
        mels = extractor(samples, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=length, return_tensors="pt")
        return mels["input_features"]

    return read


def _extractor(encoder: Any) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=encoder.model.config.num_mel_bins)


def _window(encoder: Any, extractor: WhisperFeatureExtractor) -> tuple[int, int]:
    """(Frames, samples) that Whisper hears at once."""
    frames = 2 * encoder.model.config.max_source_positions
    return frames, frames * extractor.hop_length
