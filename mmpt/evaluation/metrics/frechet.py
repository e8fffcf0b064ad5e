"""The Fréchet distance of two sets of features, from sums that are kept as they come."""

import numpy as np


class Moments:
    """Mean and covariance of rows [n, D], float64, of which only the sums are held."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._sum = np.zeros(width)
        self._products = np.zeros((width, width))
        self._origin: np.ndarray | None = None  # sums about a row of the data lose nothing to a large mean

    def add(self, rows: np.ndarray) -> None:
        """Rows [n, D] more."""
        rows = np.asarray(rows, dtype=np.float64)
        if self._origin is None and len(rows):
            self._origin = rows[0].copy()
        moved = rows - (0 if self._origin is None else self._origin)
        self.count += len(rows)
        self._sum += moved.sum(axis=0)
        self._products += moved.T @ moved

    @property
    def mean(self) -> np.ndarray:
        """[D]; of no row, zeros."""
        return (0 if self._origin is None else self._origin) + self._sum / max(1, self.count)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, [D, D]. Raises `ValueError` of fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"{self.count} rows have no covariance")
        return (self._products - np.outer(self._sum, self._sum) / self.count) / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), the distance of two normal distributions by which pictures are compared as sets
    (FID, Heusel et al. 2017, arXiv:1706.08500). The last trace is the sum of the singular values of Σ₁^½ Σ₂^½, which are real and
    not negative whatever the rounding, of singular covariances too."""
    first, second = one.covariance, other.covariance
    crossed = np.linalg.svd(_root(first) @ _root(second), compute_uv=False).sum()
    apart = float(np.square(one.mean - other.mean).sum() + np.trace(first) + np.trace(second) - 2 * crossed)
    return max(0.0, apart)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
