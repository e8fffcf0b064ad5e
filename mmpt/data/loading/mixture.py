"""Weights of a mixture from token budgets: how often to pass over each source so that an epoch holds so much of a modality."""

import numpy as np
from scipy.optimize import nnls

from mmpt.errors import ConfigError
from mmpt.vocabulary import MODALITIES

TOLERANCE = 0.01
"""Share by which an epoch may miss a budget."""
_PULL = 1e-4


def mixture_weights(tokens: np.ndarray, budgets: dict[str, float], prior: list[float]) -> list[float]:
    """Weights ≥ 0 of the sources with which an epoch holds `budgets` tokens of each modality named there.

    `tokens` int [sources, len(MODALITIES)]: tokens in one pass over each source. Where the budgets leave freedom, weights stay
    near those of `prior`: non-negative least squares with a slight pull. Raises `ConfigError` naming each budget that cannot
    be met within 1 %, with the nearest that can.
    """
    unknown = [name for name in budgets if name not in MODALITIES]
    if unknown:
        raise ConfigError(f"budgets: {', '.join(unknown)} is no modality, expected {', '.join(MODALITIES)}")
    if any(not budget > 0 for budget in budgets.values()):
        raise ConfigError("budgets: expected numbers of tokens above 0")
    columns = [MODALITIES.index(name) for name in budgets]
    wanted = np.array(list(budgets.values()), dtype=np.float64)
    start = np.maximum(np.array(prior, dtype=np.float64), 1e-9)
    # One equation for each budget, as a share of it, and a weak one for each source: stay at the prior. Unknown are the factors
    # on the prior, so a source of ten times the weight may move ten times as far.
    equations = np.concatenate([tokens[:, columns].T * start / wanted[:, None], _PULL * np.eye(len(prior))])
    ratios, _ = nnls(equations, np.concatenate([np.ones(len(columns)), np.full(len(prior), _PULL)]))
    weights = ratios * start
    found = tokens[:, columns].T @ weights
    missed = [
        f"  {name}: {want:,.0f} tokens wanted, {got:,.0f} is the nearest with the others met as well as can be"
        for name, want, got in zip(budgets, wanted, found, strict=True)
        if abs(got - want) > TOLERANCE * want
    ]
    if missed:
        raise ConfigError("budgets: no weights of the sources meet them:\n" + "\n".join(missed))
    return np.round(weights, 6).tolist()  # the last bits differ between machines, and the weights are part of the loader's state
