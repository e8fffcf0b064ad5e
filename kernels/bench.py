"""Measure every kernel against a named peer; writes kernels/results/DEVICE.json and exits 1 where a bar is missed.

    OMP_NUM_THREADS=1 python kernels/bench.py

Times are medians over pairs, kernel and peer in turn: CPU seconds of one thread, or seconds between synchronisations on a GPU.
Shares of the roofline are of what a matrix product and a copy reach here in the same run, and on a GPU also of an H100's data
sheet. Peers that are not installed have no row.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from mmpt.scripts import script_parser

if __name__ == "__main__":
    script_parser(__doc__).parse_args()  # before what takes seconds to import

import torch
import torch.nn.functional as F
from vector_quantize_pytorch import VectorQuantize

from mmpt.kernels import attention, rms_norm, rope, swiglu
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.kernels.device import device_name, file_name
from mmpt.kernels.nearest_code import nearest_code, nearest_code_reference
from mmpt.results import Figure, gather, installed

PAIRS = 5
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
DTYPE = torch.bfloat16 if GPU else torch.float32
H100_BANDWIDTH, H100_BF16 = 3.35e12, 989e12  # bytes/s and FLOP/s of the data sheet (SXM)
LOSS = TOKENS, VOCABULARY, WIDTH = (32_768, 131_072, 4096) if GPU else (4096, 150_000, 1024)
SUPERVISED = (1.0, 0.3)
PEERS = (
    ("liger-kernel", "liger", "liger_kernel.transformers.functional", "liger_fused_linear_cross_entropy"),
    ("liger-kernel", "liger sm90", "liger_kernel.ops.cutedsl.ops.fused_linear_cross_entropy_sm90",
     "liger_fused_linear_cross_entropy_sm90"),
    ("cut-cross-entropy", "cut-cross-entropy", "cut_cross_entropy", "linear_cross_entropy"),
    ("quack-kernels", "quack", "quack.linear_cross_entropy", "chunked_linear_cross_entropy"),
)  # fmt: skip
"""Fused losses of hidden states, head and targets: package, what it is called here, module, function."""
IMAGE_TOKENS, CAPTION_TOKENS, ROW = 34, 15, 200  # of image-caption data: means, and the length that rows are padded to


def main() -> None:
    torch.set_num_threads(1)
    roof = measured_roof()
    packages = ["triton", "vector-quantize-pytorch", *filter(installed, dict.fromkeys(peer[0] for peer in PEERS))]
    # Cheap parts first, and each figure written as it comes: a lent device may go back before the last.
    parts = (Roof.figures, fused_figures, attention_figures, nearest_figures, packing_figures, cross_entropy_figures)
    path = Path(__file__).parent / "results" / file_name(device_name(DEVICE))
    sys.exit(0 if gather(chain.from_iterable(part(roof) for part in parts), path, packages) else 1)


class Roof(NamedTuple):
    """What the device reaches: FLOP/s of a square matrix product in the bench's dtype, bytes/s of a copy (read and written)."""

    flops: float
    bandwidth: float

    def figures(self) -> Iterator[Figure]:
        yield Figure("matrix product, GFLOP/s", self.flops / 1e9)
        yield Figure("copy, GB/s", self.bandwidth / 1e9)

    def share(self, where: str, flops: float, moved: float, seconds: float) -> Iterator[Figure]:
        """Of a kernel that does `flops` operations on `moved` bytes, each read or written once, in `seconds`."""
        yield Figure(f"{where}: GFLOP/s", flops / seconds / 1e9)
        yield Figure(f"{where}: GB/s", moved / seconds / 1e9)
        yield Figure(f"{where}: FLOP/byte", flops / moved)
        yield Figure(f"{where}: share of the roofline", max(flops / self.flops, moved / self.bandwidth) / seconds)


def measured_roof() -> Roof:
    side, size = (8192, 2**30) if GPU else (2048, 2**28)
    square, copied = torch.randn(side, side, device=DEVICE, dtype=DTYPE), torch.zeros(size, device=DEVICE, dtype=torch.uint8)
    kept, target = torch.empty_like(square), torch.empty_like(copied)
    product = partial(torch.mm, square, square, out=kept)
    times = [(seconds(product), seconds(partial(target.copy_, copied))) for _ in range(PAIRS + 1)][1:]
    return Roof(2 * side**3 / median(times, 0), 2 * size / median(times, 1))


def nearest_shapes() -> list[tuple[int, int, int]]:
    """Rows, codes, width."""
    return [(262_144, 8192, 256)] if GPU else [(8192, codes, width) for codes in (4096, 16_384) for width in (32, 256)]


def nearest_figures(roof: Roof) -> Iterator[Figure]:
    """Against the lookup in vector-quantize-pytorch's codebook, in evaluation mode, and on a GPU all distances in float32."""
    for rows, codes, width in nearest_shapes():
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(rows, width, generator=draw).to(DEVICE)
        peer = VectorQuantize(dim=width, codebook_size=codes).to(DEVICE).eval()._codebook
        codebook = peer.embed[0].clone()
        with torch.no_grad():
            times = paired(partial(nearest_code, x, codebook), partial(peer, x[None]))
        where = f"nearest code, {rows} rows, {codes} codes of {width}"
        yield Figure(f"{where}: speed / vector-quantize-pytorch", speed(times), 3.0)
        yield from roof.share(where, 2 * rows * codes * width, 4 * (rows + codes) * width + 8 * rows, median(times, 0))
        if GPU:
            with torch.no_grad():
                times = paired(partial(nearest_code, x, codebook), partial(nearest_code_reference, x, codebook))
            yield Figure(f"{where}: speed / all distances in float32", speed(times), 3.0)


def cross_entropy_figures(roof: Roof) -> Iterator[Figure]:
    """Forward and backward, hidden states and head learned, against all logits at once and against peers that are installed."""
    for share in SUPERVISED:
        where = f"linear cross entropy, {share:.0%} supervised".replace("%", " %")
        ours = loss_run(weighted_linear_cross_entropy, share)
        flops = 6 * TOKENS * share * VOCABULARY * WIDTH
        if not GPU:
            times = paired(ours, loss_run(unfused, share))
            memory = [peak_bytes(function, share) for function in (weighted_linear_cross_entropy, unfused)]
            yield Figure(f"{where}: time / unfused", ratio(times), 1.1 if share == 1 else 0.45, at_most=True)
            yield Figure(f"{where}: peak memory / unfused", memory[0] / memory[1], 0.15, at_most=True)
        else:
            times = [(seconds(ours), 0.0) for _ in range(PAIRS + 1)][1:]
            memory = [peak_bytes(weighted_linear_cross_entropy, share)]
            yield Figure(f"{where}: share of the bf16 peak of an H100", flops / median(times, 0) / H100_BF16)
            for name, peer in peers().items():
                try:
                    against = paired(ours, loss_run(peer, share))
                    theirs = peak_bytes(peer, share)
                except Exception as problem:  # out of memory, a peer for another torch: the others still have their row
                    print(f"{where}, {name}: {type(problem).__name__}: {str(problem)[:300]}", file=sys.stderr)
                    torch.cuda.empty_cache()
                    continue
                bar = 0.45 if share < 1 and name.startswith("liger") else 1.0
                yield Figure(f"{where}: time / {name}", ratio(against), bar, at_most=True)
                yield Figure(f"{where}: peak memory / {name}", memory[0] / theirs, 1.0, at_most=True)
        yield Figure(f"{where}: peak MB", memory[0] / 1e6)
        # Hidden states, head and both gradients.
        moved = 2 * (TOKENS * share + VOCABULARY) * WIDTH * torch.finfo(DTYPE).bits / 8
        yield from roof.share(where, flops, moved, median(times, 0))


def unfused(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple:
    """What one writes without a kernel: all logits, then torch's cross entropy."""
    nll = F.cross_entropy((hidden @ head.T).float(), targets, reduction="none")
    return (weights * nll).sum(), nll.detach()


def peers() -> dict[str, Callable]:
    """Losses of the same arguments by other projects, those that are installed; without token weights, which they do not take."""
    found = {"torch.compile": torch.compile(unfused)}
    for package, name, module, function in PEERS:
        try:
            call = getattr(import_module(module), function)
            found[f"{name} {version(package)}"] = partial(_summed, call)
        except Exception as problem:  # not installed, or for another torch or device
            print(f"no peer {name}: {type(problem).__name__}: {str(problem)[:200]}", file=sys.stderr)
    return found


def _summed(call: Callable, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple:
    return (call(hidden, head, targets, reduction="sum"),)


def loss_run(function: Callable, supervised: float, shape: tuple[int, int, int] = LOSS) -> Callable[[], None]:
    """Forward and backward of a loss over tokens, vocabulary and width, with this share of the tokens supervised."""
    tokens, vocabulary, width = shape
    draw = torch.Generator(device=DEVICE).manual_seed(0)  # a head of this size takes a CPU seconds to draw
    normal = partial(torch.randn, generator=draw, device=DEVICE)
    hidden = normal(tokens, width).to(DTYPE).requires_grad_()
    head = (normal(vocabulary, width) / width**0.5).to(DTYPE).requires_grad_()
    kept = torch.rand(tokens, generator=draw, device=DEVICE) < supervised
    targets = torch.where(kept, torch.randint(0, vocabulary, (tokens,), generator=draw, device=DEVICE), -100)
    weights = kept.float()

    def run() -> None:
        # Nothing stays in `.grad`: what memory a call takes at most is counted with both gradients, whoever computes it.
        torch.autograd.grad(function(hidden, head, targets, weights)[0], (hidden, head))

    return run


class Fused(NamedTuple):
    """A kernel that memory bounds, the same operations one by one, its inputs, and what forward and backward must do."""

    name: str
    kernel: Callable
    plain: Callable
    inputs: tuple
    flops: int
    moved: int


def fused_cases() -> Iterator[Fused]:
    """RMSNorm after a sum and of each head, RoPE, SwiGLU; an addition, product, root or exponential counts as one operation."""
    rows, width, inner, heads, shared, dim = (8192, 4096, 14_336, 32, 8, 128) if GPU else (1024, 1024, 3072, 16, 4, 64)
    draw = torch.Generator(device=DEVICE).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, device=DEVICE).to(DTYPE).requires_grad_()

    tables = [table.to(DEVICE) for table in rope.rope_tables(torch.arange(rows)[None], dim)]
    size = torch.finfo(DTYPE).bits // 8
    norm, plain_norm = partial(rms_norm.add_rms_norm, eps=1e-6), partial(rms_norm.reference, eps=1e-6, offset=0.0)
    inputs = (normal(rows, width), normal(rows, width), normal(width))
    yield Fused("rms norm after a sum", norm, plain_norm, inputs, 15 * rows * width, 8 * rows * width * size)
    inputs = (normal(rows, heads, dim), normal(dim))
    count = rows * heads * dim
    yield Fused(
        "rms norm of heads", rms_norm.rms_norm, lambda x, w: plain_norm(x, None, w)[0], inputs, 13 * count, 5 * count * size
    )
    inputs = (normal(1, heads, rows, dim), normal(1, shared, rows, dim))
    count = sum(part.numel() for part in inputs)
    yield Fused(
        "rope",
        lambda q, k: rope.rope(q, k, *tables),
        lambda q, k: (rope.reference(q, *tables), rope.reference(k, *tables)),
        inputs,
        6 * count,
        4 * count * size,
    )
    inputs = (normal(rows, inner), normal(rows, inner))
    yield Fused("swiglu", swiglu.swiglu, swiglu.reference, inputs, 15 * rows * inner, 8 * rows * inner * size)


def fused_figures(roof: Roof) -> Iterator[Figure]:
    """Forward and backward, against PyTorch's operations one by one."""
    for case in fused_cases():
        slopes: dict[tuple, torch.Tensor] = {}
        times = paired(*(partial(there_and_back, function, case.inputs, slopes) for function in (case.kernel, case.plain)))
        yield Figure(f"{case.name}: speed / one by one", speed(times))
        yield from roof.share(case.name, case.flops, case.moved, median(times, 0))
        if GPU:
            yield Figure(f"{case.name}: share of an H100's bandwidth", case.moved / median(times, 0) / H100_BANDWIDTH, 0.85)


def there_and_back(function: Callable, inputs: tuple, slopes: dict[tuple, torch.Tensor]) -> None:
    """Forward and backward. `slopes` keeps the outputs' gradients from one call to the next: filling them is no work of a kernel,
    and of one that memory bounds it is a tenth of the bytes. Gradients of the inputs are found, not put into `.grad`: one that
    two inputs share would be copied there."""
    found = function(*inputs)
    found = (found,) if isinstance(found, torch.Tensor) else tuple(found)
    for one in found:
        if one.shape not in slopes:
            slopes[one.shape] = torch.ones_like(one)
    torch.autograd.grad(found, inputs, [slopes[one.shape] for one in found])


def attention_figures(roof: Roof) -> Iterator[Figure]:
    """Forward and backward of one layer's attention by each back end that runs here, over a pack of documents and over one long
    document. Operations are counted causal and within documents, and a backward pass as two and a half forward ones."""
    if not GPU:  # kernels/README.md has a CPU's
        return
    heads, shared, dim = 16, 8, 128  # of Qwen3-0.6B
    for lengths in ((8192,), (700, 1400, 49, 49, 300, 2048, 49, 1200, 49, 2348), (32_768,)):
        total, draw = sum(lengths), torch.Generator(device=DEVICE).manual_seed(0)
        parts = [
            torch.randn(1, total, count, dim, generator=draw, device=DEVICE, dtype=DTYPE).transpose(1, 2).requires_grad_()
            for count in (heads, shared, shared)
        ]
        flops = 3.5 * sum(2 * length * (length + 1) for length in lengths) * heads * dim
        ways: dict[str, Callable] = {
            name: partial(attention.packed_attention, lengths=lengths, backend=name)
            for name in attention.BACKENDS
            if not attention.why_not(name, parts[0]) and (name != "dense" or total <= 8192)
        }
        for package, module in (("flash-attn", "flash_attn"), ("flash-attn-3", "flash_attn_interface")):
            if installed(package):
                ways[f"{package} {version(package)}"] = partial(flash, import_module(module).flash_attn_varlen_func, lengths)
        for name, way in ways.items():
            where = f"attention by {name}, {len(lengths)} documents in {total} tokens"
            run = partial(there_and_back, way, tuple(parts), {})
            try:
                run()
            except Exception as problem:
                print(f"{where}: {type(problem).__name__}: {str(problem)[:300]}", file=sys.stderr)
                continue
            spent = statistics.median(seconds(run) for _ in range(PAIRS))
            yield Figure(f"{where}: ms", spent * 1e3)
            yield Figure(f"{where}: share of the bf16 peak of an H100", flops / spent / H100_BF16)


def flash(function: Callable, lengths: tuple[int, ...], *heads: torch.Tensor) -> torch.Tensor:
    """The published kernel itself over the documents of a row: heads [1, count, T, D]; [T, count, D]."""
    borders = torch.tensor([0, *lengths], device=DEVICE).cumsum(0, dtype=torch.int32)
    rows = (part.squeeze(0).transpose(0, 1) for part in heads)
    found = function(*rows, borders, borders, max(lengths), max(lengths), causal=True)
    return found[0] if isinstance(found, tuple) else found


def packing_figures(roof: Roof) -> Iterator[Figure]:
    """A training step of a small decoder on the lengths of image-caption data, packed against padded: useful tokens a second."""
    from mmpt.model.backbone import BackboneConfig, build_backbone
    from mmpt.model.forward import hidden_states

    content = {"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 64}
    config = BackboneConfig(config={**content, "num_attention_heads": 4, "num_key_value_heads": 2})
    model = build_backbone(config, 1000, seed=0).to(DEVICE, DTYPE)
    draw = torch.Generator().manual_seed(0)
    captions = torch.poisson(torch.full((32,), float(CAPTION_TOKENS)), generator=draw).long().clamp(1, ROW - IMAGE_TOKENS)
    lengths = (IMAGE_TOKENS + captions).tolist()
    ids = torch.randint(0, 1000, (len(lengths), ROW), generator=draw).to(DEVICE)
    mask = (torch.arange(ROW)[None] < torch.tensor(lengths)[:, None]).to(DEVICE)
    packed = ids[mask][None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(DEVICE)
    borders = torch.tensor([0, *lengths]).cumsum(0)

    def pack() -> None:
        hidden_states(model, packed, positions, borders).square().mean().backward()
        model.zero_grad()

    def pad() -> None:
        output = model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        output.last_hidden_state[mask].square().mean().backward()
        model.zero_grad()

    times = paired(pack, pad)
    where = f"rows of {IMAGE_TOKENS} image and {CAPTION_TOKENS} caption tokens"
    yield Figure(f"useful tokens/s, {where}, packed / padded to {ROW}", speed(times), 2.0)
    yield Figure(f"useful tokens/s, {where}, packed", sum(lengths) / median(times, 0))


def seconds(run: Callable) -> float:
    if not GPU:
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(kernel: Callable, peer: Callable) -> list[tuple[float, float]]:
    """Seconds of both in turn, after a warm-up."""
    kernel(), peer()
    return [(seconds(kernel), seconds(peer)) for _ in range(PAIRS)]


def ratio(times: list[tuple[float, float]]) -> float:
    return statistics.median(one / other for one, other in times)


def speed(times: list[tuple[float, float]]) -> float:
    return statistics.median(other / one for one, other in times)


def median(times: list[tuple[float, float]], which: int) -> float:
    return statistics.median(pair[which] for pair in times)


def peak_bytes(function: Callable, supervised: float) -> float:
    """Most memory above the inputs that forward and backward take; on a CPU in a process of its own, by its resident size."""
    if GPU:
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


if __name__ == "__main__":
    main()
