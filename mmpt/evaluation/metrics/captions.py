"""CIDEr (Vedantam et al. 2015, arXiv:1411.5726) and BLEU (Papineni et al. 2002) of captions, by pycocoevalcap.

Its Java tokenizer is not used: words are those of `mmpt.evaluation.metrics.recognition.normalise`, which is said in every result.
"""

import contextlib
import io
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.intervals import Measure, measure
from mmpt.evaluation.metrics.recognition import normalise


class CaptionScores(NamedTuple):
    """`cider` of each caption, float64 [captions], its idf over all references; BLEU-1 … 4 of all of them together."""

    cider: np.ndarray
    bleu: tuple[Measure, ...]


def caption_scores(references: Sequence[Sequence[str]], said: Sequence[str]) -> CaptionScores:
    """The scores of what was `said` of each picture against its references. Raises `ConfigError` where pycocoevalcap is not
    installed."""
    try:
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        raise ConfigError("captions need the package pycocoevalcap (pip install mmpt[evaluate])") from None
    wanted = [[normalise(caption) for caption in captions] for captions in references]
    found = [normalise(text) for text in said]
    _, cider = Cider().compute_score(dict(enumerate(wanted)), {number: [text] for number, text in enumerate(found)})

    def bleu(chosen: np.ndarray) -> list[float]:
        scorer = BleuScorer(n=4)
        for number in chosen.tolist():
            scorer += (found[number], wanted[number])
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where `verbose` is off, too
            return scorer.compute_score(option="closest", verbose=0)[0]

    @cache  # the four orders resample the same items in the same order
    def of_sample(chosen: bytes) -> list[float]:
        return bleu(np.frombuffer(chosen, dtype=np.int64))

    measures = tuple(
        measure(f"BLEU-{order + 1}", len(found), lambda chosen, order=order: of_sample(chosen.astype(np.int64).tobytes())[order])
        for order in range(4)
    )
    return CaptionScores(np.asarray(cider, dtype=np.float64), measures)
