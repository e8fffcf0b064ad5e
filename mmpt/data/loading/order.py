"""The one canonical order of documents in an epoch: a pure function of (sizes, mixture weights, seed, epoch)."""

import math

import numpy as np

from mmpt.errors import ConfigError


def document_order(sizes: list[int], weights: list[float], seed: int, epoch: int) -> np.ndarray:
    """Shuffled rows (source, index within the source), int64 [documents, 2].

    `weights[s]` says how many times source s is passed over in the epoch: 1.0 once; 2.5 twice, and a half of it, drawn anew
    each epoch, a third time; 0 never. Raises `ConfigError` where the weights do not fit the sources.
    """
    if len(weights) != len(sizes):
        raise ConfigError(f"mixture: {len(weights)} weights for {len(sizes)} sources")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ConfigError(f"mixture: weights are {list(weights)}, expected numbers of 0 or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected 0 or more")
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch)))
    parts = [np.zeros((0, 2), dtype=np.int64)]
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        passes = math.floor(weight)
        drawn = _permutation(bits, size)[: round((weight - passes) * size)]
        indices = np.concatenate([np.tile(np.arange(size), passes), drawn])
        parts.append(np.stack([np.full(len(indices), source), indices], axis=1))
    rows = np.concatenate(parts)
    return rows[_permutation(bits, len(rows))]


def _permutation(bits: np.random.PCG64, size: int) -> np.ndarray:
    """A random order of 0 … size − 1. Made of raw bits, which numpy never changes; `Generator.permutation` it may."""
    return np.argsort(bits.random_raw(size), kind="stable")
