"""Check every kernel against its definition in float64, at odd shapes, and that two runs give the same bits.

    python kernels/check.py            # exit code 1 where one fails

Tolerances are a few roundings of the dtype, so that a kernel that loses a token or a weight fails (tests/kernels plants both).
"""

import sys
from collections.abc import Callable, Iterator

import torch

from mmpt.kernels.cross_entropy import reference, weighted_linear_cross_entropy
from mmpt.kernels.nearest_code import nearest_code

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CROSS_ENTROPY_SHAPES = [(1, 2, 1), (7, 131, 17), (257, 1009, 63), (700, 30_011, 65)]  # the last takes two chunks
NEAREST_SHAPES = [(1, 1, 1), (17, 5, 3), (4097, 1023, 31), (5000, 4096, 64)]  # rows, codes, width
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}


def cross_entropy(device: str) -> Iterator[tuple[str, float, float]]:
    """(name, largest error relative to the largest entry, tolerance) of loss, nll and both gradients."""
    for dtype, tolerance in TOLERANCE.items():
        for tokens, vocabulary, width in CROSS_ENTROPY_SHAPES:
            draw = torch.Generator().manual_seed(tokens)
            hidden = torch.randn(tokens, width, generator=draw).to(device, dtype)
            head = (torch.randn(vocabulary, width, generator=draw) / width**0.5).to(device, dtype)
            targets = torch.randint(0, vocabulary, (tokens,), generator=draw).to(device)
            weights = (torch.rand(tokens, generator=draw) - 0.5).clamp(min=0).to(device)
            found = outputs(weighted_linear_cross_entropy, hidden, head, targets, weights)
            again = outputs(weighted_linear_cross_entropy, hidden, head, targets, weights)
            wanted = outputs(reference, hidden.double(), head.double(), targets, weights)
            where = f"cross_entropy {device} {dtype} {tokens}x{vocabulary}x{width}"
            for name, one, other in zip(("loss", "nll", "d_hidden", "d_head"), found, wanted, strict=True):
                yield f"{where} {name}", error(one, other), tolerance
            yield f"{where} same bits", float(not all(map(torch.equal, found, again))), 0.0
    hidden, head = (torch.randn(size, 5, dtype=torch.float64, device=device, requires_grad=True) for size in (9, 7))
    targets, weights = torch.arange(9, device=device) % 7, torch.arange(9, device=device) / 4.0
    passed = torch.autograd.gradcheck(lambda h, w: weighted_linear_cross_entropy(h, w, targets, weights)[0], (hidden, head))
    yield f"cross_entropy {device} gradcheck", float(not passed), 0.0


def outputs(function: Callable, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> list:
    hidden, head = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    loss, nll = function(hidden, head, targets, weights)
    loss.backward()
    return [loss.detach(), nll, hidden.grad, head.grad]


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)).item() if wanted.abs().max() else 0.0


def nearest(device: str) -> Iterator[tuple[str, float, float]]:
    """How much further the chosen code is than the nearest one, as a share of ‖x‖² + ‖c‖²: near ties may go either way."""
    for rows, codes, width in NEAREST_SHAPES:
        draw = torch.Generator().manual_seed(rows)
        x, codebook = (torch.randn(size, width, generator=draw).to(device) for size in (rows, codes))
        found = nearest_code(x, codebook)
        exact = torch.cdist(x.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        excess = (exact.gather(1, found.unsqueeze(1)) - exact.min(dim=1, keepdim=True).values).squeeze(1)
        scale = x.double().square().sum(1) + codebook.double().square().sum(1)[found]
        where = f"nearest_code {device} {rows}x{codes}x{width}"
        yield where, (excess / scale).max().item(), 1e-6
        yield f"{where} same bits", float(not torch.equal(found, nearest_code(x, codebook))), 0.0
    whole = torch.eye(5, device=device) * torch.arange(1, 6, device=device)  # small integers: distances without rounding
    ties = nearest_code(whole, torch.cat([whole, whole]))
    yield f"nearest_code {device} ties take the lowest index", float(not torch.equal(ties, torch.arange(5, device=device))), 0.0


def main() -> None:
    failures = 0
    for device in DEVICES:
        for check in (cross_entropy, nearest):
            for name, value, tolerance in check(device):
                passed = value <= tolerance
                failures += not passed
                print(f"{name:64} {value:9.2e}  {'ok' if passed else f'FAILED (at most {tolerance:.0e})'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
