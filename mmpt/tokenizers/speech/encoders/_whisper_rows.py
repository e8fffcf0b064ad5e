"""What is found of the states that a Whisper hears, and laid around them, without gradients."""

import torch
from torch.nn import functional as F

from mmpt.layers.masks import length_mask


def principal_components(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean [D], axes [D, count]) of `rows` [n, D], the axis of the largest variance first."""
    mean = rows.mean(dim=0)
    centred = rows - mean
    return mean, torch.linalg.eigh(centred.t() @ centred).eigenvectors.flip(1)[:, :count]


def before_silence(x: torch.Tensor, lengths: torch.Tensor, silence: torch.Tensor) -> torch.Tensor:
    """`x` [B, C, D] of `lengths` [B], and behind the last of each what `silence` [P, D] is from there on: [B, P, D]."""
    spoken = length_mask(lengths, len(silence))[..., None]
    return torch.where(spoken, F.pad(x, (0, 0, 0, len(silence) - x.shape[1])), silence)


def filled(rows: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """`rows` [P, D], those that are not `known` [P] like the nearest that is."""
    places = known.nonzero()[:, 0]
    return rows[places[(torch.arange(len(rows), device=rows.device)[:, None] - places).abs().argmin(dim=1)]]


def explained_by_position(rows: list[torch.Tensor], positions: torch.Tensor) -> torch.Tensor:
    """What `positions` [P, D] explain of `rows` [up to P, D] that stand at the first of them, by least squares: [P, D] of mean
    zero over the rows."""
    there = torch.cat([positions[: len(row)] for row in rows])
    mean, all_rows = there.mean(dim=0), torch.cat(rows)
    given = there - mean
    ridge = 1e-6 * len(given) * torch.eye(positions.shape[1], device=given.device)
    weights = torch.linalg.solve(given.t() @ given + ridge, given.t() @ (all_rows - all_rows.mean(dim=0)))
    return (positions - mean) @ weights


def first_of(out: torch.Tensor | tuple) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out
