"""Utterances read by a recogniser of transformers."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import pipeline

from mmpt.document import Speech
from mmpt.errors import ConfigError
from mmpt.media import decode_speech

RATE = 16_000
BATCH = 16


def transcripts(name: str, utterances: Sequence[Speech]) -> list[str]:
    """What is heard in each. Raises `DataError` where one cannot be decoded, `ConfigError` where there is no such model."""
    sounds = [{"raw": decode_speech(one.data, RATE), "sampling_rate": RATE} for one in utterances]
    if not sounds:
        return []
    return [str(one["text"]) for one in _recogniser(name)(sounds, batch_size=BATCH)]


@lru_cache(maxsize=1)
def _recogniser(name: str) -> Any:
    """Loaded once in each process."""
    try:
        return pipeline(
            "automatic-speech-recognition",
            name,
            device=0 if torch.cuda.is_available() else -1,
            chunk_length_s=30,
            ignore_warning=True,
        )
    except (OSError, ValueError) as problem:
        raise ConfigError(f"asr_agreement: {name} cannot be loaded ({problem})") from None
