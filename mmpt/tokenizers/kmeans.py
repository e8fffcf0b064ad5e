"""Where a codebook begins: Lloyd's algorithm from random rows, the same on any number of ranks that hold the same rows."""

import torch
from torch.nn import functional as F

from mmpt.kernels.nearest_code import nearest_code


def kmeans(rows: torch.Tensor, centers: torch.Tensor, iterations: int = 10) -> torch.Tensor:
    """Means [codes, dim] of `rows` [n, dim], float32, by Lloyd's algorithm from `centers`; one without rows stays where it is."""
    for _ in range(iterations):
        sums, counts = assigned(rows, nearest_code(rows, centers), len(centers)).split([rows.shape[1], 1], dim=1)
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
    return centers


def assigned(rows: torch.Tensor, codes: torch.Tensor, count: int) -> torch.Tensor:
    """For each of `count` codes, the sum of its rows and behind it their number: [count, dim + 1], in a fixed order of summation
    (on a GPU too, where `index_add_` has none)."""
    found = rows.new_zeros(count, rows.shape[1] + 1)
    return found.index_put_((codes,), F.pad(rows, (0, 1), value=1.0), accumulate=True)


def sampled(rows: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """`count` random rows, with a little noise so that no two are equal."""
    draw = torch.Generator().manual_seed(seed)
    chosen = rows[torch.randint(len(rows), (count,), generator=draw).to(rows.device)]
    noise = torch.randn(chosen.shape, generator=draw).to(rows.device)
    return chosen + 0.01 * rows.std() * noise
