import torch
from torch import Tensor
from torch.nn import functional as F


def merged(features: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """([B, rows, D], how many of the N features [B, N, D] each is the mean of, [B, rows]: they come to N)."""
    if rows > features.shape[1]:
        raise ValueError(f"merge: {features.shape[1]} features cannot become {rows} rows")
    sizes = features.new_ones(features.shape[:2])
    while features.shape[1] > rows:
        features, sizes = merge_round(features, sizes, min(features.shape[1] - rows, features.shape[1] // 2))
    return features, sizes


def merge_round(features: Tensor, sizes: Tensor, count: int, by: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of every second feature, the `count` that are most like one of the others become part of that one: by the cosine of `by`
    [B, N, …], None: of the features."""
    batch, total, _ = features.shape
    alike = F.normalize(features if by is None else by, dim=-1).detach()
    best, target = (alike[:, ::2] @ alike[:, 1::2].transpose(1, 2)).max(dim=-1)
    order = best.argsort(dim=1, descending=True, stable=True)
    gone, stay = order[:, :count], order[:, count:]
    # A product and not a scattered sum, whose order would differ from run to run on a GPU.
    share = F.one_hot(target.gather(1, gone), total // 2).to(features.dtype).transpose(1, 2)
    weighted = features * sizes[..., None]
    heavy = weighted[:, 1::2] + share @ _taken(weighted[:, ::2], gone)
    weight = sizes[:, 1::2] + (share @ sizes[:, ::2].gather(1, gone)[..., None])[..., 0]
    places = torch.arange(1, total, 2, device=features.device).expand(batch, -1)
    again = torch.cat([2 * stay, places], dim=1).argsort(dim=1)
    found = torch.cat([_taken(features[:, ::2], stay), heavy / weight[..., None]], dim=1)
    return _taken(found, again), torch.cat([sizes[:, ::2].gather(1, stay), weight], dim=1).gather(1, again)


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """`values` [B, N, D] at `places` [B, n]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))
