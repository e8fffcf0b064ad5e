"""Check every kernel against its definition in float64, at odd shapes, and that two runs give the same bits.

    python kernels/check.py                   # exit code 1 where one fails
    python kernels/check.py --dtype bfloat16  # in this one, the shortest look at a new device

Each implementation that runs here: PyTorch's in float32 and bfloat16; Triton's in float32, bfloat16 and float16 on a GPU,
elsewhere in its interpreter in float32 and float16. Tolerances are a few roundings of the dtype, relative to the largest entry,
so that a kernel that loses a token or a weight fails (tests/kernels plants such errors). One that raises fails, too, and the
others are still looked at.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import NamedTuple

from mmpt.scripts import script_parser

if __name__ == "__main__":
    parser = script_parser(__doc__)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="check in this dtype alone")
    ASKED = parser.parse_args().dtype  # before what takes seconds to import

import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where triton is imported first

from mmpt.kernels import attention, cross_entropy, embedding, nearest_code, rms_norm, rope, sparse_linear, swiglu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
HALVES = (torch.bfloat16, torch.float16)
TRITON_DTYPES = (torch.float32, *HALVES) if DEVICE == "cuda" else (torch.float32, torch.float16)
ATTENTION_DTYPES = (torch.float32, *HALVES) if DEVICE == "cuda" else (torch.float32, torch.bfloat16)


class Case(NamedTuple):
    """`function` and `reference` take the same `inputs` and give tensors; those of the inputs in `learned` have a gradient."""

    name: str
    function: Callable[..., object]
    reference: Callable[..., object]
    inputs: tuple
    learned: tuple[int, ...]


def cross_entropy_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    function = partial(cross_entropy.weighted_linear_cross_entropy, kernel=kernel)
    small = [(1, (2,), 1), (7, (131,), 17), (9, (97, 34), 24), (3, (4500,), 8)]  # the last takes two blocks of a row
    for tokens, sizes, width in [*small, (120, (80_011,), 17)] if kernel == "torch" else small:
        hidden = _normal(draw, dtype, tokens, width)
        heads = [_normal(draw, dtype, size, width) / width**0.5 for size in sizes]
        targets = torch.randint(0, sum(sizes), (tokens,), generator=draw).to(DEVICE)
        weights = (torch.rand(tokens, generator=draw) - 0.3).clamp(min=0).to(DEVICE)
        weights[0] = 1.0

        def run(call, hidden, targets, weights, *heads):
            return call(hidden, list(heads) if len(heads) > 1 else heads[0], targets, weights)[:2]

        name = f"{tokens} tokens, {'+'.join(map(str, sizes))} ids, width {width}"
        both = partial(run, function), partial(run, cross_entropy.reference)
        inputs = (hidden, targets, weights, *heads)
        yield Case(f"cross entropy, {name}", *both, inputs, (0, *range(3, 3 + len(heads))))
        yield Case(f"cross entropy, frozen text rows, {name}", *both, inputs, (0, *range(4, 3 + len(heads))))


def rms_norm_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    of_triton = import_module("mmpt.kernels.triton_rms_norm")
    strips = of_triton.STRIPS * of_triton.NARROW * of_triton.tile(17, torch.device(DEVICE))[1]  # a tile of rows in each
    for rows, width, offset in ((1, 3, 0.0), (5, 33, 0.0), (strips + 45, 17, 1.0)):
        x, residual, weight = (_normal(draw, dtype, *shape) for shape in ((rows, width), (rows, width), (width,)))
        name = f"{rows} x {width}, offset {offset:g}"
        plain = partial(rms_norm.rms_norm, eps=1e-5, offset=offset, kernel=kernel)
        yield Case(
            f"rms norm, {name}", plain, lambda x, w, o=offset: rms_norm.reference(x, None, w, 1e-5, o)[0], (x, weight), (0, 1)
        )
        fused = partial(rms_norm.add_rms_norm, eps=1e-5, offset=offset, kernel=kernel)
        after = partial(rms_norm.reference, eps=1e-5, offset=offset)
        yield Case(f"rms norm after a sum, {name}", fused, after, (x, residual, weight), (0, 1, 2))


def swiglu_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    for shape in ((1,), (3, 7), (2, 5, 1031)):
        gate, up = _normal(draw, dtype, *shape) * 3, _normal(draw, dtype, *shape)
        yield Case(f"swiglu, {shape}", partial(swiglu.swiglu, kernel=kernel), swiglu.reference, (gate, up), (0, 1))


def rope_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    for heads, shared, length, dim in ((1, 1, 1, 2), (6, 3, 11, 10), (4, 2, 9, 64)):
        query, key = _normal(draw, dtype, 2, heads, length, dim), _normal(draw, dtype, 2, length, shared, dim).transpose(1, 2)
        positions = torch.cat([torch.arange(length - length // 2), torch.arange(length // 2)])  # two documents
        # Halves that differ, as no model has them: a kernel that mixes them up is found.
        tables = [(table + 0.1 * torch.rand(dim, generator=draw)).to(DEVICE) for table in rope.rope_tables(positions[None], dim)]

        def both(query, key, cos, sin):
            return rope.reference(query, cos, sin), rope.reference(key, cos, sin)

        name = f"rope, {heads} and {shared} heads, {length} x {dim}"
        yield Case(name, partial(rope.rope, kernel=kernel), both, (query, key, *tables), (0, 1))


def embedding_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    for tokens, old, new, width in ((1, 1, 1, 1), (57, 11, 5, 33), (60, 3, 90, 16), (470, 3, 4, 9)):
        ids = torch.randint(0, old + new, (tokens,), generator=draw)
        if tokens == 470:
            ids[torch.rand(tokens, generator=draw) < 0.6] = old + 1  # one row has many: whole segments of tokens, and a rest
        ids = ids.to(DEVICE)
        frozen, table = _normal(draw, dtype, old, width), _normal(draw, dtype, new, width)
        function = partial(embedding.two_table_embedding, kernel=kernel)
        yield Case(f"embedding, {tokens} of {old}+{new} x {width}", function, embedding.reference, (ids, frozen, table), (2,))


def sparse_linear_cases(kernel: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    for tokens, rows, columns, rank in ((1, 1, 1, 1), (7, 13, 29, 3), (130, 21, 70, 8)):
        starts, places = (part.to(DEVICE) for part in sparse_linear.random_support(rows, columns, 0.1, seed=rows))
        x, b, a = (_normal(draw, dtype, *shape) for shape in ((tokens, columns), (rows, rank), (rank, columns)))
        values = _normal(draw, dtype, len(places))
        function = partial(sparse_linear.sparse_low_rank_linear, scale=0.5, kernel=kernel)
        wanted = partial(sparse_linear.reference, scale=0.5)
        name = f"low rank + sparse linear, {tokens} x {columns} to {rows}, rank {rank}"
        yield Case(name, function, wanted, (x, b, a, starts, places, values), (0, 1, 2, 5))


def attention_cases(backend: str, dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    for lengths, spans, window in (
        ((5,), (), None),
        ((3, 1, 9, 4), (), None),
        ((3, 12, 4), ((4, 9), (16, 18)), None),
        ((20, 7), (), 5),
    ):
        heads = [_normal(draw, dtype, 1, count, sum(lengths), 16) for count in (4, 2, 2)]
        if attention.why_not(backend, heads[0], bool(spans), window=window):
            continue
        options = {"lengths": lengths, "spans": spans, "window": window}
        name = f"attention by {backend}, documents of {lengths}, pictures at {spans}, window {window}"
        ours = partial(attention.packed_attention, backend=backend, **options)
        yield Case(name, ours, partial(attention.reference, **options), tuple(heads), (0, 1, 2))


KERNELS = (cross_entropy_cases, rms_norm_cases, swiglu_cases, rope_cases, embedding_cases, sparse_linear_cases)


def checks(only: torch.dtype | None = None) -> Iterator[tuple[str, float, float]]:
    """(name, error, tolerance) of everything that runs here, or of what runs in `only`."""
    for make in KERNELS:
        yield from kernel_checks(make, only)
    yield from attention_checks(only)
    if only is not None:
        return
    for kernel in ("torch", "triton"):
        yield from nearest(kernel)


def kernel_checks(make: Callable, only: torch.dtype | None = None) -> Iterator[tuple[str, float, float]]:
    for kernel, dtypes in (("torch", (torch.float32, torch.bfloat16)), ("triton", TRITON_DTYPES)):
        for dtype in (dtype for dtype in dtypes if only in (None, dtype)):
            for case in make(kernel, dtype, torch.Generator().manual_seed(0)):
                yield from compared(case, f"{kernel} {_short(dtype)}", TOLERANCE[dtype])
    if only is not None:
        return
    for case in make("torch", torch.float64, torch.Generator().manual_seed(0)):
        yield from gradients(case)


def attention_checks(only: torch.dtype | None = None) -> Iterator[tuple[str, float, float]]:
    for backend in attention.BACKENDS:
        for dtype in (dtype for dtype in ATTENTION_DTYPES if only in (None, dtype)):
            for case in attention_cases(backend, dtype, torch.Generator().manual_seed(0)):
                yield from compared(case, _short(dtype), TOLERANCE[dtype])


def compared(case: Case, where: str, tolerance: float) -> Iterator[tuple[str, float, float]]:
    """Outputs and gradients against those of the definition in float64; and against a second run, bit for bit."""
    try:
        found, again = outputs(case.function, case.inputs, case.learned), outputs(case.function, case.inputs, case.learned)
    except Exception as problem:  # a compiler's error of any kind: on a first device all that break are to be seen in one run
        print(f"{case.name} [{where}]: {type(problem).__name__}: {problem}", file=sys.stderr)
        yield f"{case.name} [{where}]", float("inf"), tolerance
        return
    exact = tuple(part.double() if part.is_floating_point() else part for part in case.inputs)
    wanted = outputs(case.reference, exact, case.learned)
    worst = max(_error(one, other) for one, other in zip(found, wanted, strict=True))
    yield f"{case.name} [{where}]", worst, tolerance
    yield f"{case.name} [{where}] same bits", float(not all(map(torch.equal, found, again))), 0.0


def outputs(function: Callable, inputs: tuple, learned: tuple[int, ...]) -> list[Tensor]:
    """What `function` gives, and the gradients of a fixed random sum of it."""
    own = [part.detach().requires_grad_(number in learned) for number, part in enumerate(inputs)]
    found = function(*own)
    found = [found] if isinstance(found, Tensor) else list(found)
    draw = torch.Generator().manual_seed(1)
    slopes = [torch.randn(one.shape, generator=draw).to(one.device, one.dtype) for one in found]
    known = [(one, slope) for one, slope in zip(found, slopes, strict=True) if one.requires_grad]
    torch.autograd.backward(*zip(*known, strict=True))
    return [one.detach() for one in found] + [own[number].grad for number in learned]


def gradients(case: Case) -> Iterator[tuple[str, float, float]]:
    """Finite differences, where the case is small; else the analytic gradient of the definition, to float64's rounding."""
    sizes = sum(part.numel() for number, part in enumerate(case.inputs) if number in case.learned)
    if sizes > 400:
        yield from compared(case, "torch float64", TOLERANCE[torch.float64])
        return
    own = tuple(part.detach().requires_grad_(number in case.learned) for number, part in enumerate(case.inputs))

    def only_differentiable(*inputs):
        found = case.function(*inputs)
        return tuple(one for one in ((found,) if isinstance(found, Tensor) else found) if one.requires_grad)

    passed = torch.autograd.gradcheck(only_differentiable, own, raise_exception=False)
    yield f"{case.name} [finite differences]", float(not passed), 0.0


def nearest(kernel: str) -> Iterator[tuple[str, float, float]]:
    """How much further the chosen code is than the nearest one, as a share of ‖x‖² + ‖c‖²: near ties may go either way."""
    shapes = [(1, 1, 1), (17, 5, 3), (130, 67, 40)] + ([(4097, 1023, 31), (5000, 4096, 64)] if kernel == "torch" else [])
    for rows, codes, width in shapes:
        draw = torch.Generator().manual_seed(rows)
        x, codebook = (torch.randn(size, width, generator=draw).to(DEVICE) for size in (rows, codes))
        found = nearest_code.nearest_code(x, codebook, kernel)
        exact = torch.cdist(x.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        excess = (exact.gather(1, found.unsqueeze(1)) - exact.min(dim=1, keepdim=True).values).squeeze(1)
        scale = x.double().square().sum(1) + codebook.double().square().sum(1)[found]
        where = f"nearest code, {rows} rows, {codes} codes of {width} [{kernel}]"
        yield where, (excess / scale).max().item(), 1e-6
        yield f"{where} same bits", float(not torch.equal(found, nearest_code.nearest_code(x, codebook, kernel))), 0.0
    whole = torch.eye(5, device=DEVICE) * torch.arange(1, 6, device=DEVICE)  # small integers: distances without rounding
    ties = nearest_code.nearest_code(whole, torch.cat([whole, whole]), kernel)
    yield f"nearest code, ties take the lowest [{kernel}]", float(not torch.equal(ties.cpu(), torch.arange(5))), 0.0


def _normal(draw: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(DEVICE, dtype)


def _error(found: Tensor, wanted: Tensor) -> float:
    largest = wanted.abs().max() if wanted.numel() else torch.zeros(())
    return ((found.double() - wanted).abs().max() / largest.clamp(min=1e-30)).item() if wanted.numel() else 0.0


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(asked: str | None) -> None:
    failures = 0
    for name, value, tolerance in checks(None if asked is None else getattr(torch, asked)):
        passed = value <= tolerance
        failures += not passed
        print(f"{name:100} {value:9.2e}  {'ok' if passed else f'FAILED (at most {tolerance:.0e})'}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main(ASKED)
