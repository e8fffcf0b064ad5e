"""What others' models say of decoded sound: how clean it is (DNSMOS), and whether it is the same voice; and PESQ, of each sample.

All take float32 [samples] at 16 kHz in −1 … 1 and need `pip install mmpt[judges]`, which brings their weights along. What was
said is read by `mmpt.evaluation.metrics.listening`.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from mmpt.errors import ConfigError
from mmpt.modality import SAMPLE_RATE

SHORTEST = SAMPLE_RATE // 2
"""Samples below which PESQ hears no utterance."""


def dnsmos(sounds: Sequence[np.ndarray]) -> list[float]:
    """Overall quality 1 … 5 of each, as DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763) estimates listeners would say it."""
    judge = _needed("speechmos.dnsmos", "DNSMOS")
    return [float(judge.run(np.clip(sound, -1, 1), sr=SAMPLE_RATE, return_df=False)["ovrl_mos"]) for sound in sounds]


def voices(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """The voice of each, float32 [sounds, 256] of length 1: GE2E embeddings (Wan et al. 2018, arXiv:1710.10467) by Resemblyzer,
    after its own trimming of silence. The scalar product of two says how much they are one speaker's."""
    judge = _needed("resemblyzer", "speaker similarity")
    encoder = judge.VoiceEncoder("cpu", verbose=False)
    found = []
    for sound in sounds:
        spoken = judge.preprocess_wav(sound, source_sr=SAMPLE_RATE)
        found.append(encoder.embed_utterance(spoken if len(spoken) else sound))
    return np.stack(found)


def pesq(originals: Sequence[np.ndarray], decoded: Sequence[np.ndarray]) -> list[float]:
    """Wideband PESQ (ITU-T P.862.2), 1 … 4.6, of each decoded beside its original; NaN where it hears no utterance."""
    judge = _needed("pesq", "PESQ")

    def one(original: np.ndarray, sound: np.ndarray) -> float:
        size = min(len(original), len(sound))
        if size < SHORTEST:
            return float("nan")
        found = judge.pesq(SAMPLE_RATE, original[:size], sound[:size], "wb", on_error=judge.PesqError.RETURN_VALUES)
        return float(found) if found > 0 else float("nan")

    return [one(*pair) for pair in zip(originals, decoded, strict=True)]


JUDGES: dict[str, Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], list[float]]] = {
    "dnsmos": lambda _, decoded: dnsmos(decoded),
    "speaker_similarity": lambda originals, decoded: (voices(originals) * voices(decoded)).sum(axis=1).tolist(),
    "pesq": pesq,
}
"""By name: (originals, decoded) → a figure of each, more of which is better."""


def _needed(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as problem:
        raise ConfigError(f"{what} needs `pip install mmpt[judges]` ({problem})") from None
