"""Whether a codebook is alive."""

import torch


def code_counts(codes: torch.Tensor, size: int) -> torch.Tensor:
    """How often each of `size` codes is in `codes` (any shape): float64 [size]."""
    return torch.bincount(codes.reshape(-1), minlength=size).double()


def codebook_health(counts: torch.Tensor) -> dict[str, float]:
    """Of float64 `counts` [size]: share of entries `used`, `perplexity`, and `entropy` ÷ log(size), which is 1 for even use."""
    shares = counts / counts.sum().clamp_min(1)
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum()
    return {
        "used": float((counts > 0).double().mean()),
        "perplexity": float(entropy.exp()),
        "entropy": float(entropy / max(float(torch.tensor(float(len(counts))).log()), 1e-12)),
    }


def codebook_use(codes: torch.Tensor, size: int) -> dict[str, float]:
    """Health of a codebook of `size` entries over `codes` (any shape)."""
    return codebook_health(code_counts(codes, size))
