"""Measure every kernel against a named peer; writes kernels/results/DEVICE.json and exits 1 where a bar is missed.

    OMP_NUM_THREADS=1 python kernels/bench.py

Times are medians over pairs, kernel and peer in turn: CPU seconds of one thread, or seconds between synchronisations on a GPU.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from vector_quantize_pytorch.vector_quantize_pytorch import cdist

from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.kernels.nearest_code import nearest_code
from mmpt.results import Figure, device, report

PAIRS = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOKENS, VOCABULARY, WIDTH = 2048, 32_000, 512


def unfused(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple:
    """What one writes without a kernel: all logits, then torch's cross entropy."""
    nll = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    return (weights * nll).sum(), nll.detach()


def loss_run(function: Callable, supervised: float) -> Callable[[], None]:
    """Forward and backward of a loss at the bench's shape, with this share of the tokens supervised."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=draw).to(DEVICE).requires_grad_()
    head = (torch.randn(VOCABULARY, WIDTH, generator=draw) / WIDTH**0.5).to(DEVICE).requires_grad_()
    kept = torch.rand(TOKENS, generator=draw) < supervised
    targets = torch.where(kept, torch.randint(0, VOCABULARY, (TOKENS,), generator=draw), -100).to(DEVICE)
    weights = kept.float().to(DEVICE)

    def run() -> None:
        hidden.grad = head.grad = None
        function(hidden, head, targets, weights)[0].backward()

    return run


def nearest_runs() -> tuple[Callable[[], object], Callable[[], object]]:
    draw = torch.Generator().manual_seed(0)
    x, codebook = (torch.randn(size, 64, generator=draw).to(DEVICE) for size in (8192, 4096))
    return lambda: nearest_code(x, codebook), lambda: cdist(x[None], codebook[None]).argmin(dim=-1)


def seconds(run: Callable) -> float:
    if DEVICE.type == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(kernel: Callable, peer: Callable) -> tuple[float, float]:
    """(median over pairs of kernel's time / peer's time, median time of the kernel in seconds), after a warm-up."""
    kernel(), peer()
    pairs = [(seconds(kernel), seconds(peer)) for _ in range(PAIRS)]
    return statistics.median(one / other for one, other in pairs), statistics.median(one for one, _ in pairs)


def peak_bytes(function: Callable, supervised: float) -> float:
    """Most memory above the inputs that forward and backward take; on a CPU in a process of its own, by its resident size."""
    if DEVICE.type == "cuda":
        run = loss_run(function, supervised)
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(resident_peak, (function, supervised))


def resident_peak(function: Callable, supervised: float) -> float:
    torch.set_num_threads(1)
    run = loss_run(function, supervised)
    (torch.ones(8, 8, requires_grad=True) @ torch.ones(8, 8)).sum().backward()  # what PyTorch allocates once
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes of this process in memory by /proc: VmRSS now, VmHWM at most so far (getrusage's maximum survives an exec)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def main() -> None:
    torch.set_num_threads(1)
    figures = []
    for supervised, bar in ((0.3, 0.6), (1.0, 1.1)):
        share = f"{supervised:.0%} supervised".replace("%", " %")
        time_ratio, own = ratio(loss_run(weighted_linear_cross_entropy, supervised), loss_run(unfused, supervised))
        memory = peak_bytes(weighted_linear_cross_entropy, supervised), peak_bytes(unfused, supervised)
        flops = 6 * int(TOKENS * supervised) * VOCABULARY * WIDTH
        figures += [
            Figure(f"cross entropy time / unfused, {share}", time_ratio, bar, at_most=True),
            Figure(f"cross entropy memory / unfused, {share}", memory[0] / memory[1], 0.3, at_most=True),
            Figure(f"cross entropy peak MB, {share}", memory[0] / 1e6),
            Figure(f"cross entropy GFLOP/s, {share}", flops / own / 1e9),
        ]
    square = torch.randn(2048, 2048, device=DEVICE)
    product = statistics.median(seconds(lambda: square @ square) for _ in range(PAIRS))
    figures.append(Figure("roofline: matrix product GFLOP/s", 2 * 2048**3 / product / 1e9))
    time_ratio, _ = ratio(*nearest_runs())
    figures.append(Figure("nearest code speed / cdist + argmin", 1.0 / time_ratio, 3.0))
    name = re.sub(r"[^a-z0-9]+", "-", device().lower()).strip("-")
    ok = report(figures, Path(__file__).parent / "results" / f"{name}.json", packages=["vector-quantize-pytorch"])
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
