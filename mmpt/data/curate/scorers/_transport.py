"""Optimal transport between two clouds of points, with the regularisation of Cuturi 2013."""

import numpy as np

ROUNDS, STEPS = 40, 50
"""Rounds at most, each of a step in logarithms and at most so many as products of matrices, which are faster."""


def costs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 [n, m]: squared distances of the rows."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.maximum(squares, 0)


def potential_of_target(pool: np.ndarray, target: np.ndarray, epsilon: float, tolerance: float = 1e-3) -> np.ndarray:
    """float64 [m]: Sinkhorn's potential g of each row of `target` where both clouds weigh 1, evenly; found where a round changes
    it by less than `tolerance` · epsilon. The regularisation is halved until it is epsilon, each time from what was found."""
    cost = costs(pool, target)
    g, now = np.zeros(cost.shape[1]), max(float(cost.max()), epsilon)
    while now > epsilon:
        now = max(now / 2, epsilon)
        scaled = cost / now
        for _ in range(ROUNDS if now == epsilon else 2):
            new = _round(scaled, g / now) * now
            change, g = np.abs((new - new.mean()) - (g - g.mean())).max(), new
            if change < tolerance * now:
                break
    return g


def _round(cost: np.ndarray, g: np.ndarray) -> np.ndarray:
    """g after some of Sinkhorn's steps; `cost` and `g` are in units of the regularisation."""
    n, m = cost.shape
    f = -_log_mean(g[None] - cost, axis=1)
    g = -_log_mean(f[:, None] - cost, axis=0)
    plan = np.exp(f[:, None] + g[None] - cost) / (n * m)
    v = np.ones(m)
    for _ in range(STEPS):
        rows = plan @ v
        columns = (1 / n / rows) @ plan if rows.min() > 0 else np.zeros(m)
        if not columns.min() > 1e-100:  # what is left of a sum is too small to be divided by
            break
        v = 1 / m / columns
    return g + np.log(v)


def potential(points: np.ndarray, target: np.ndarray, g: np.ndarray, epsilon: float) -> np.ndarray:
    """float64 [n]: the potential f at any points, which is the derivative of the regularised cost by the mass there, but for a
    constant."""
    return -epsilon * _log_mean((g[None] - costs(points, target)) / epsilon, axis=1)


def _log_mean(exponents: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the mean of e to the power of them along an axis."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(exponents, axis=axis)) - np.log(exponents.shape[axis])
