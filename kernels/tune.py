"""Find block sizes for this device and write them to mmpt/kernels/tuned/DEVICE.json, which the kernels read from then on.

    OMP_NUM_THREADS=1 python kernels/tune.py

At the shapes of kernels/bench.py (on a CPU, a smaller vocabulary), all candidates in turn, ROUNDS times; a kernel's own default
stays unless another is faster by MARGIN. The file also has the seconds of every candidate.
"""

import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from mmpt.scripts import script_parser

if __name__ == "__main__":
    script_parser(__doc__).parse_args()  # before what takes seconds to import

import bench
import torch

from mmpt.kernels import blocks, cross_entropy, nearest_code, sparse_linear
from mmpt.kernels.device import device_name, file_name
from mmpt.progress import progress_bars
from mmpt.results import environment
from mmpt.storage import write_json

ROUNDS = 7
MARGIN = 0.02
MIB = 2**20


class Search(NamedTuple):
    """`sizes`: candidates by name, the default of each first. `runs`: what is timed, once for each shape."""

    kernel: str
    sizes: dict[str, list[int]]
    runs: list[Callable[[], object]]


def main() -> None:
    torch.set_num_threads(1)
    tuned, seconds = {}, {}
    with progress_bars() as progress:
        for search in progress.track(list(searches()), description="kernels"):
            best, rows = fastest(search)
            seconds[search.kernel] = rows
            if best is not None:
                tuned[search.kernel] = best
    for kernel, rows in seconds.items():
        for row in sorted(rows, key=lambda row: row["seconds"]):
            print(
                f"{kernel:22} {row['seconds']:10.4g} s  {row['sizes']}{'  chosen' if row['sizes'] == tuned.get(kernel) else ''}"
            )
    path = blocks.TUNED / file_name(device_name(bench.DEVICE))
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"blocks": tuned, "seconds": seconds, **environment(["torch", "triton"])})
    print(f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def searches() -> Iterator[Search]:
    draw = torch.Generator().manual_seed(0)
    lookups = []
    for rows, codes, width in bench.nearest_shapes():
        x, codebook = (torch.randn(n, width, generator=draw).to(bench.DEVICE) for n in (rows, codes))
        lookups.append(partial(nearest_code.nearest_code, x, codebook))
    # With the vocabulary of the bench, a CPU's chunks are as short as they may be, whatever their bytes.
    shape = bench.LOSS if bench.GPU else (4096, 16_384, 512)
    losses = [bench.loss_run(cross_entropy.weighted_linear_cross_entropy, share, shape) for share in bench.SUPERVISED]
    norm, heads, rotation, gated = (partial(bench.there_and_back, case.kernel, case.inputs, {}) for case in bench.fused_cases())
    chunks = {"chunk_bytes": [cross_entropy.CHUNK_BYTES, *(n * MIB for n in (8, 16, 64, 128))]}
    if bench.GPU:
        chunks = {"chunk_tokens": [cross_entropy.GPU_CHUNK_TOKENS, 1024, 2048, 8192, 16_384]}
    yield Search("cross_entropy", chunks, losses)
    yield Search("sparse_linear", {"block_bytes": [sparse_linear.BLOCK_BYTES, *(n * MIB for n in (1, 2, 4, 16, 32))]}, [sparse()])
    if not bench.GPU:
        yield Search("nearest_code", {"chunk_bytes": [nearest_code.CHUNK_BYTES, *(n * MIB for n in (1, 2, 8, 16))]}, lookups)
        return
    from mmpt.kernels import triton_cross_entropy, triton_nearest_code, triton_rms_norm, triton_swiglu

    yield Search("triton_cross_entropy", around(triton_cross_entropy.SIZES), losses)
    yield Search("triton_nearest_code", around(triton_nearest_code.SIZES), lookups)
    yield Search("triton_swiglu", around(triton_swiglu.SIZES), [gated])
    yield Search("triton_rms_norm", {"columns_per_warp": [triton_rms_norm.COLUMNS_PER_WARP, 128, 256, 1024]}, [norm, heads])
    yield Search("triton_rope", {"warps": [4, 1, 2, 8]}, [rotation])


def around(sizes: dict[str, int]) -> dict[str, list[int]]:
    """Each size, half of it and twice of it."""
    return {name: [size, size // 2, size * 2] for name, size in sizes.items()}


def sparse() -> Callable[[], object]:
    """SLTrain's layer forward and backward: rank 128, 3 % of the entries."""
    rows, width, rank = 2048, 4096 if bench.GPU else 1024, 128
    draw = torch.Generator().manual_seed(0)
    starts, columns = (part.to(bench.DEVICE) for part in sparse_linear.random_support(width, width, 0.03, 0))
    x, b, a, values = (
        torch.randn(*shape, generator=draw).to(bench.DEVICE, bench.DTYPE).requires_grad_()
        for shape in ((rows, width), (width, rank), (rank, width), columns.shape)
    )

    def layer(x: torch.Tensor, b: torch.Tensor, a: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return sparse_linear.sparse_low_rank_linear(x, b, a, starts, columns, values)

    return partial(bench.there_and_back, layer, (x, b, a, values), {})


def fastest(search: Search) -> tuple[dict[str, int] | None, list[dict]]:
    """(the best sizes, or None where none beats the defaults by `MARGIN`; sizes and seconds of each candidate that runs)."""
    candidates = [dict(zip(search.sizes, values, strict=True)) for values in itertools.product(*search.sizes.values())]
    times: list[list[list[float]] | None] = [[[] for _ in search.runs] for _ in candidates]
    for turn in range(ROUNDS + 1):  # the first one warms up and compiles
        for number, sizes in enumerate(candidates):
            if times[number] is None:
                continue
            with patch.object(blocks, "table", lambda device, sizes=sizes: {search.kernel: sizes}):
                try:
                    for run, found in zip(search.runs, times[number], strict=True):
                        found.append(bench.seconds(run))
                        if turn == 0:
                            found.clear()
                except Exception as problem:  # more shared memory than there is, say: another candidate will do
                    if number == 0:
                        raise
                    print(f"{search.kernel} {sizes}: {str(problem).splitlines()[0]}", file=sys.stderr)
                    times[number] = None
    # Over shapes the geometric mean, so that the longest does not decide alone.
    rows = [
        {"sizes": sizes, "seconds": prod(statistics.median(one) for one in found) ** (1 / len(found))}
        for sizes, found in zip(candidates, times, strict=True)
        if found is not None
    ]
    best = min(rows, key=lambda row: row["seconds"])
    return best["sizes"] if best["seconds"] < (1 - MARGIN) * rows[0]["seconds"] else None, rows


if __name__ == "__main__":
    main()
