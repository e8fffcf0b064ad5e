"""Codes that are not quite right, as a language model that errs would give them."""

import torch

from mmpt.tokenizers.image.stage_config import PerturbConfig


def perturbed(codes: torch.Tensor, entries: torch.Tensor, config: PerturbConfig, share: float = 1.0) -> torch.Tensor:
    """`codes` [B, n], some of them replaced by a random one of the entries nearest to theirs, as `config` says, in a `share`
    of the pictures that it tells.

    `entries` [books, size, D]: of each codebook, their codes numbered one behind the other. Of several codes with one entry, the
    nearest to each other are all of them.
    """
    size = entries.shape[1]
    neighbours = min(config.neighbours, size - 1)
    rank = torch.randint(neighbours, codes.shape, device=codes.device)
    wrong = torch.rand(codes.shape, device=codes.device) < config.codes
    wrong &= torch.rand(len(codes), 1, device=codes.device) < config.pictures * share
    found = codes.clone()
    for book, rows in enumerate(entries):
        places = wrong & (codes // size == book)
        own = codes[places] - book * size
        # Only of those that are replaced: the distances of a whole codebook are work of its size squared.
        distances = torch.cdist(rows[own], rows)
        distances.scatter_(1, own[:, None], torch.inf)
        nearest = distances.topk(neighbours, dim=1, largest=False).indices
        found[places] = nearest.gather(1, rank[places][:, None])[:, 0] + book * size
    return found


def left_of(config: PerturbConfig, progress: float, begin: float) -> float:
    """The share of the perturbed pictures that is left at `progress`, falling evenly from 1 at `begin` to 0 at `config.until`; 1
    all through where that is none."""
    if config.until is None:
        return 1.0
    return min(1.0, max(0.0, (config.until - progress) / max(1e-9, config.until - begin)))
