from torch import Tensor
from torch.nn import functional as F


def pooled(features: Tensor, rows: int, grid: bool) -> Tensor:
    """[B, N, D] → [B, rows, D]."""
    across = features.transpose(1, 2)
    if not grid:
        if rows > features.shape[1]:
            raise ValueError(f"pool: {features.shape[1]} features cannot become {rows} rows")
        return F.adaptive_avg_pool1d(across, rows).transpose(1, 2)
    side, left = (round(count**0.5) for count in (features.shape[1], rows))
    if (side * side, left * left) != (features.shape[1], rows) or left > side:
        raise ValueError(
            f"pool: {features.shape[1]} features to {rows} rows, expected squares of whole numbers, rows the smaller"
        )
    return F.adaptive_avg_pool2d(across.unflatten(2, (side, side)), left).flatten(2).transpose(1, 2)
