"""Which vocoder: one trained by `tokenizers/train.py`, or a published one."""

from pathlib import Path
from typing import Annotated

import pydantic

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.storage import MANIFEST
from mmpt.tokenizers.speech.published_vocoder import PublishedVocoder, PublishedVocoderConfig
from mmpt.tokenizers.speech.vocoder import Vocoder, VocoderConfig

AnyVocoder = Vocoder | PublishedVocoder
"""Both have `config.mels`, `speak`, `reach` and `period`."""


class _AnyConfig(pydantic.RootModel):
    root: Annotated[VocoderConfig | PublishedVocoderConfig, pydantic.Field(discriminator="kind")]


def build_vocoder(content: dict, name: str) -> AnyVocoder:
    """The vocoder whose configuration is `content`, with random weights; `name` stands for it in messages."""
    config = parse_config(content, _AnyConfig, name).root
    return Vocoder(config) if isinstance(config, VocoderConfig) else PublishedVocoder(config)


def load_vocoder(name: str | Path, mels: int) -> AnyVocoder:
    """The vocoder in a folder that `Vocoder.save` wrote, or the published one of a folder or Hugging Face name; in eval mode.

    `mels`: bands of the log-mel that it is to speak. Raises `ConfigError` where that does not fit or the weights are of another
    kind, `CheckpointError` where they are damaged or not whole.
    """
    if not (Path(name) / MANIFEST).is_file():
        return PublishedVocoder.from_checkpoint(str(name), mels)
    vocoder = Vocoder.load(Path(name))
    if vocoder.config.mels != mels:
        raise ConfigError(f"{name}: a vocoder of {vocoder.config.mels} mel bands, expected {mels}")
    return vocoder
