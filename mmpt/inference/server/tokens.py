"""Tokens as clients are told of them: how many of which kind, and how likely."""

from collections.abc import Iterable, Sequence
from typing import Any

from mmpt.modality import MEDIA, MODALITIES, Modality
from mmpt.vocabulary import Vocabulary

Counts = dict[Modality, int]


def counted(vocabulary: Vocabulary, ids: Iterable[int]) -> Counts:
    """How many of `ids` are of each modality: blocks of codes or of slots for features, their marks included, and all else as
    text."""
    found: Counts = dict.fromkeys(MODALITIES, 0)
    opening: dict[int, Modality] = {vocabulary.special(f"<|{kind}|>"): kind for kind in MEDIA}
    closing = {vocabulary.special(f"<|/{kind}|>") for kind in MEDIA}
    inside: Modality = "text"
    for token in ids:
        inside = opening.get(token, inside)
        found[inside] += 1
        if token in closing:
            inside = "text"
    return found


def usage(prompt: Counts, written: Counts) -> dict[str, Any]:
    """As OpenAI's chat completions have it; tokens of pictures in the answer stand beside, which OpenAI has none of."""
    asked, answered = sum(prompt.values()), sum(written.values())
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {
            "audio_tokens": prompt["speech"],
            "cached_tokens": 0,
            "image_tokens": prompt["image"],
            "text_tokens": prompt["text"],
        },
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": written["speech"],
            "image_tokens": written["image"],
            "reasoning_tokens": 0,
            "rejected_prediction_tokens": 0,
            "text_tokens": written["text"],
        },
    }


def summed(counts: Sequence[Counts]) -> Counts:
    """All together."""
    return {name: sum(one[name] for one in counts) for name in MODALITIES}
