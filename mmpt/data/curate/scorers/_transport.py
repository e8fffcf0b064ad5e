"""Optimal transport between two clouds of points, with the regularisation of Cuturi 2013."""

import numpy as np


def costs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 [n, m]: squared distances of the rows."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.maximum(squares, 0)


def potential_of_target(
    pool: np.ndarray, target: np.ndarray, epsilon: float, tolerance: float = 1e-6, most: int = 5000
) -> np.ndarray:
    """float64 [m]: Sinkhorn's potential g of each row of `target` where both clouds weigh 1, evenly, in logarithms."""
    from scipy.special import logsumexp

    cost = costs(pool, target) / epsilon
    g = np.zeros(cost.shape[1])
    for _ in range(most):
        f = -logsumexp(g[None] - cost, axis=1, b=1 / cost.shape[1])
        new = -logsumexp(f[:, None] - cost, axis=0, b=1 / cost.shape[0])
        change, g = np.abs(new - g).max(), new
        if change < tolerance:
            break
    return g * epsilon


def potential(points: np.ndarray, target: np.ndarray, g: np.ndarray, epsilon: float) -> np.ndarray:
    """float64 [n]: the potential f at any points, which is the derivative of the regularised cost by the mass there, but for a
    constant."""
    from scipy.special import logsumexp

    return -epsilon * logsumexp((g[None] - costs(points, target)) / epsilon, axis=1, b=1 / len(target))
