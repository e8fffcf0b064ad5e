import torch
from torch import Tensor
from torch.nn import functional as F


def most_different(features: Tensor, rows: int) -> Tensor:
    """[B, N, D] → [B, rows, D]."""
    batch, total, width = features.shape
    if rows > total:
        raise ValueError(f"drop: {total} features cannot become {rows} rows")
    with torch.no_grad():
        alike = F.normalize(features.float(), dim=-1)
        apart = 1 - alike @ alike.transpose(1, 2)
        eye = torch.eye(total, dtype=torch.bool, device=features.device)
        nearest = apart.masked_fill(eye, float("inf")).amin(dim=2)
        kept = torch.zeros(batch, total, dtype=torch.bool, device=features.device)
        lines = torch.arange(batch, device=features.device)
        for number in range(rows):
            chosen = nearest.masked_fill(kept, -float("inf")).argmax(dim=1)
            kept[lines, chosen] = True
            to_chosen = apart[lines, chosen]
            nearest = to_chosen if number == 0 else torch.minimum(nearest, to_chosen)
        places = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, :rows]
    return features.gather(1, places[..., None].expand(-1, -1, width))
