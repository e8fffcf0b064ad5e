"""IBM Model 1 between the old and the new tokens of sequences."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpt.model.row_init.translation import Translation

LEAST = 3
"""Different old and different new tokens of a sequence that is looked at: a prompt, or the marks of a beginning and an end, say
nothing."""


class _Pairs(NamedTuple):
    """Every (word, new token) that stand in one sequence: the number of the new token's `place`, and of the pair among `words`
    and `tokens`, of which no two are the same pair."""

    place: np.ndarray
    pair: np.ndarray
    words: np.ndarray
    tokens: np.ndarray


def translated_rows(
    settings: Translation, rows: Tensor, count: int, sequences: Iterable[Sequence[int]], generator: torch.Generator
) -> Tensor:
    """Float32 rows [count, H] of new tokens with ids len(rows) … len(rows) + count − 1. Raises `ValueError` where no sequence has
    enough of both."""
    pairs = _pairs(sequences, len(rows), settings.longest)
    if not len(pairs.pair):
        raise ValueError(f"no sequence of at most {settings.longest} ids has {LEAST} old and {LEAST} new tokens")
    expected = expected_counts(pairs, settings.rounds)
    share = torch.from_numpy(expected / np.bincount(pairs.tokens, expected)[pairs.tokens]).float()
    found = rows.mean(dim=0).repeat(count, 1)
    tokens = torch.from_numpy(pairs.tokens)
    found[tokens.unique()] = 0.0
    found.index_add_(0, tokens, share[:, None] * rows[torch.from_numpy(pairs.words)])
    return found + settings.noise * rows.std() * torch.randn(found.shape, generator=generator)


def expected_counts(pairs: _Pairs, rounds: int) -> np.ndarray:
    """How often each pair is expected to be a translation, float64 [pairs], after so many rounds: p(token | word) begins uniform
    (their equations 17 and 18)."""
    probability = np.ones(len(pairs.words))
    expected = probability
    for _ in range(rounds):
        own = probability[pairs.pair]
        share = own / np.bincount(pairs.place, own)[pairs.place]
        expected = np.bincount(pairs.pair, share, len(pairs.words))
        probability = expected / np.bincount(pairs.words, expected)[pairs.words]
    return expected


def _pairs(sequences: Iterable[Sequence[int]], first_new: int, longest: int) -> _Pairs:
    places, words, tokens = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    seen = 0
    for sequence in sequences:
        ids = np.asarray(sequence, dtype=np.int64)
        old, new = ids[ids < first_new], ids[ids >= first_new] - first_new
        if len(ids) > longest or min(len(np.unique(old)), len(np.unique(new))) < LEAST:
            continue
        places.append(np.repeat(np.arange(seen, seen + len(new)), len(old)))
        words.append(np.tile(old, len(new)))
        tokens.append(np.repeat(new, len(old)))
        seen += len(new)
    both = np.stack([np.concatenate(words), np.concatenate(tokens)], axis=1)
    different, pair = np.unique(both, axis=0, return_inverse=True)
    return _Pairs(np.concatenate(places), pair.reshape(-1), different[:, 0], different[:, 1])
