"""What is said in sound, by a recogniser of transformers."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mmpt.config import Schema
from mmpt.errors import ConfigError
from mmpt.modality import SAMPLE_RATE

WINDOW = 30 * SAMPLE_RATE
"""Samples that Whisper takes at once; it reads what is longer window by window, by its timestamps."""
BATCH = 16
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


class ListenerConfig(Schema):
    """A speech recogniser of transformers."""

    model: str
    """Its folder or Hugging Face name, such as openai/whisper-large-v3."""
    language: str | None = None
    """What Whisper is to expect, such as english; without it, it listens for itself."""
    spell_numbers: bool = False
    """Numbers below a hundred that it writes in digits, and plus signs, are taken as English words, as the texts have them."""


def recognise(listener: ListenerConfig, sounds: Sequence[np.ndarray]) -> list[str]:
    """The text of each of the `sounds`, float32 [samples] at 16 kHz. Raises `ConfigError`."""
    try:
        read = _recognise(listener, sounds)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"listener {listener.model!r} reads nothing: {problem}") from None
    return [spelled(one) for one in read] if listener.spell_numbers else read


def _recognise(listener: ListenerConfig, sounds: Sequence[np.ndarray]) -> list[str]:
    read = _loaded(listener.model)
    whisper = read.type == "seq2seq_whisper"
    if listener.language and not whisper:
        raise ValueError("it takes no language")
    if whisper and not hasattr(read.tokenizer, "_decode_asr"):
        from mmpt.data.hearing.whisper import read_whisper

        return read_whisper(read.model, read.tokenizer, read.feature_extractor, sounds, listener.language)
    options = {"generate_kwargs": {"language": listener.language}} if listener.language else {}
    long = [whisper and len(samples) > WINDOW for samples in sounds]
    found = [""] * len(sounds)
    for chosen, more in (
        # Other recognisers may have no mask for what fills a batch.
        ([n for n, one in enumerate(long) if not one], {"batch_size": BATCH if whisper else 1}),
        ([n for n, one in enumerate(long) if one], {"return_timestamps": True}),
    ):
        said: Any = read([{"raw": sounds[n], "sampling_rate": SAMPLE_RATE} for n in chosen], **options, **more) if chosen else []
        for number, one in zip(chosen, said, strict=True):
            found[number] = one["text"].strip()
    return found


@lru_cache(maxsize=1)
def _loaded(model: str) -> Any:
    """A pipeline of transformers, loaded once in each process."""
    import torch
    from transformers import pipeline

    return pipeline("automatic-speech-recognition", model=model, device="cuda" if torch.cuda.is_available() else "cpu")


def spelled(text: str) -> str:
    """`text` with whole numbers below a hundred, and plus signs, in English words."""
    return re.sub(r"\d+", lambda found: _words(found[0]), re.sub(r"\s*\+\s*", " plus ", text)).strip()


def _words(digits: str) -> str:
    tens, ones = divmod(int(digits), 10)
    if len(digits) > 2 or tens < 2:
        return ONES[int(digits)] if int(digits) < 20 and len(digits) < 3 else digits
    return f"{TENS[tens - 2]} {ONES[ones]}" if ones else TENS[tens - 2]
