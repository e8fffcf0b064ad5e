"""Triton kernels compiled for a GPU that is not there, and what came out: registers, stack, shared memory, widths of accesses."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from pretended import GPUS, Gpu, Launch, pretended_gpu
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmpt.kernels import cross_entropy, embedding, nearest_code, rms_norm, rope, swiglu, triton_embedding, triton_sparse_linear

BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
POINTERS = {
    torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.int64: "*i64", torch.int32: "*i32",
    torch.int8: "*i8",
}  # fmt: skip
WIDE = 128  # bits of the widest access


class Case(NamedTuple):
    """A use of kernels at the shape `where`; `run(dtype)` starts them. `narrow`: by the function's name, why its reads and writes
    cannot have 128 bits, where that is so."""

    where: str
    run: Callable[[torch.dtype], object]
    narrow: dict[str, str] = {}
    dtypes: tuple[str, ...] = tuple(DTYPES)


class Compiled(NamedTuple):
    """Of a thread its `registers` and the bytes of `stack` in which what finds no register is kept; `shared` memory of a program;
    how many `loads` and `stores` on global memory there are of each width in bits; `products` of tensor cores."""

    registers: int
    stack: int
    shared: int
    loads: dict[int, int]
    stores: dict[int, int]
    products: list[str]


def cases() -> Iterator[Case]:
    """Every Triton kernel at the shapes of Qwen3-0.6B, Llama 3.1 8B and of the tokenizers."""
    tokens = 8192

    def loss(vocabulary: int) -> Callable[[torch.dtype], object]:
        def run(dtype: torch.dtype) -> None:
            hidden, head = (torch.zeros(n, 1024, dtype=dtype, requires_grad=True) for n in (tokens, vocabulary))
            targets, kept = torch.zeros(tokens, dtype=torch.int64), torch.zeros(tokens, dtype=torch.int64)
            cross_entropy.weighted_linear_cross_entropy(hidden, head, targets, torch.zeros(tokens), kept=kept)

        return run

    def norm(rows: int, width: int, fused: bool = False) -> Callable[[torch.dtype], object]:
        def run(dtype: torch.dtype) -> None:
            x, residual = (torch.zeros(rows, width, dtype=dtype, requires_grad=True) for _ in range(2))
            weight = torch.ones(width, dtype=dtype, requires_grad=True)
            if fused:
                found, total = rms_norm.add_rms_norm(x, residual, weight)
                (found.sum() + total.sum()).backward()
            else:
                rms_norm.rms_norm(x, weight).sum().backward()

        return run

    def rotation(dtype: torch.dtype) -> None:
        parts = [torch.zeros(1, tokens, heads, 128, dtype=dtype, requires_grad=True) for heads in (16, 16)]
        tables = rope.rope_tables(torch.arange(tokens)[None], 128)
        sum(part.sum() for part in rope.rope(*(part.transpose(1, 2) for part in parts), *tables)).backward()

    def gated(dtype: torch.dtype) -> None:
        swiglu.swiglu(*(torch.zeros(tokens, 3072, dtype=dtype, requires_grad=True) for _ in range(2))).sum().backward()

    def lookup(dtype: torch.dtype) -> None:
        ids, order = torch.zeros(tokens, dtype=torch.int64), torch.zeros(tokens, dtype=torch.int64)
        frozen, new = (torch.zeros(rows, 1024, dtype=dtype) for rows in (151_669, 24_583))
        embedding.two_table_embedding(ids, frozen, new)
        starts = torch.zeros(24_584, dtype=torch.int64)
        triton_embedding.summed(torch.zeros(tokens, 1024, dtype=dtype), ids, order, starts, len(frozen))

    def sparse(dtype: torch.dtype) -> None:
        width, entries = 4096, 123  # 3 % of each row
        starts, columns = torch.zeros(width + 1, dtype=torch.int32), torch.zeros(width * entries, dtype=torch.int32)
        x, low, values = (torch.zeros(*shape, dtype=dtype) for shape in ((tokens, width), (tokens, width), columns.shape))
        triton_sparse_linear.times_sparse(x, starts, columns, values, low)
        triton_sparse_linear.sampled(low, x, starts, columns)

    def codes(dtype: torch.dtype) -> None:
        nearest_code.nearest_code(torch.zeros(tokens, 256), torch.zeros(8192, 256))

    yield Case("rows of 131,072 logits", loss(131_072))
    yield Case("rows of 176,251 logits", loss(176_251), {"losses": "rows of odd length start anywhere"})
    yield Case("width 1,024", norm(tokens, 1024))
    yield Case("width 4,096, after a sum", norm(tokens, 4096, fused=True))
    yield Case("heads of 128", norm(16 * tokens, 128))
    yield Case("16 heads of 128", rotation)
    yield Case("width 3,072", gated)
    yield Case("width 1,024", lookup)
    yield Case("4,096 × 4,096, 3 %", sparse, {"times": "gathered columns", "sampled": "gathered columns"})
    yield Case("8,192 codes of 256", codes, {"nearest": "one index a row is written"}, ("fp32",))


def launches(case: Case, gpu: Gpu, dtype: torch.dtype) -> list[Launch]:
    """Those of `case`, each function and specialisation once."""
    found: list[Launch] = []
    with pretended_gpu(gpu, found.append):
        case.run(dtype)
        return list({(launch.name, str(source(launch)[1:]), str(launch.options)): launch for launch in found}.values())


def source(launch: Launch) -> tuple[object, dict[str, str], dict, dict]:
    """(function, signature, constants, attributes) as Triton's own launcher would specialise: a whole number of 1 is a constant,
    one that 16 divides says so, as does a pointer; memory from torch's allocator starts at a multiple of 512 bytes."""
    given = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
    given |= {name: value for name, value in launch.options.items() if name in launch.kernel.arg_names}
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(launch.kernel.params):
        value = given[parameter.name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        divisible = whole and value % 16 == 0
        if parameter.is_constexpr or (whole and value == 1):
            signature[parameter.name], constants[(place,)], divisible = "constexpr", value, False
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            divisible = value.storage_offset() * value.element_size() % 16 == 0
        elif whole:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        else:
            signature[parameter.name] = "fp32"
        if divisible:
            attributes[(place,)] = [["tt.divisibility", 16]]
    return launch.kernel, signature, constants, attributes


class Row(NamedTuple):
    """What became of a launch of `case` on `gpu`, in `dtype`."""

    case: Case
    gpu: Gpu
    dtype: str
    launch: Launch
    found: Compiled

    @property
    def name(self) -> str:
        return f"{self.launch.name}, {self.case.where}"

    @property
    def narrow(self) -> str:
        return self.case.narrow.get(self.launch.kernel.fn.__name__.lstrip("_"), "")

    @property
    def bits(self) -> int:
        """The widest access of the direction, reads or writes, that has the narrower ones."""
        return min(max(self.found.loads), max(self.found.stores))

    def told(self) -> dict:
        """For the result file."""
        what = {"kernel": self.name, "target": f"sm_{self.gpu.capability}", "dtype": self.dtype, "grid": self.launch.grid}
        options = {name: value for name, value in self.launch.options.items() if isinstance(value, int)}
        return {**what, "options": options, **self.found._asdict(), "narrow": self.narrow}


def compiled(gpus: tuple[Gpu, ...] = GPUS, dtypes: tuple[str, ...] = tuple(DTYPES), each: bool = False) -> Iterator[Row]:
    """All kernels, for all that is asked. `each`: every kernel's function once, at its first case."""
    seen: set[str] = set()
    for case in cases():
        for gpu in gpus:
            for dtype in case.dtypes if len(case.dtypes) == 1 else dtypes:
                found = launches(case, gpu, DTYPES[dtype])
                for launch in found if not each else [one for one in found if one.name not in seen]:
                    seen.add(launch.name)
                    yield Row(case, gpu, dtype, launch, compile_for(launch, gpu))


def compile_for(launch: Launch, gpu: Gpu) -> Compiled:
    """Through to the machine code of `gpu`. Raises what the compiler raises."""
    function, signature, constants, attributes = source(launch)
    options = {name: value for name, value in launch.options.items() if name.startswith("num_")}
    kernel = triton.compile(
        ASTSource(function, signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", gpu.capability, 32),
        options=options,
    )
    registers, stack = resources(kernel.asm["cubin"])
    code = kernel.asm["ptx"]
    products = sorted(set(re.findall(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)\b", code)))
    return Compiled(registers, stack, kernel.metadata.shared, loads(code), stores(code), products)


def resources(cubin: bytes) -> tuple[int, int]:
    """(registers of a thread, bytes of its stack) by a tool that comes with Triton: what finds no register lies there."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = [str(BINARIES / "cuobjdump"), "--dump-resource-usage", file.name]
        usage = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    (found,) = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    return int(found[0]), int(found[1]) + int(found[2])


def loads(code: str) -> dict[int, int]:
    """How many reads of global memory there are in `code`, PTX, of each width in bits, those straight into shared memory among
    them."""
    copied = re.findall(r"\bcp\.async\.c[ag]\.shared\.global[^;]*?\],[^;]*?\], (0x[0-9a-f]+|\d+)", code)
    return _counted([8 * int(size, 0) for size in copied] + _widths(code, "ld"))


def stores(code: str) -> dict[int, int]:
    """The same of writes."""
    return _counted(_widths(code, "st"))


def _widths(code: str, operation: str) -> list[int]:
    found = re.findall(rf"\b{operation}\.global(?:\.(?!v\d)[A-Za-z_]\w*(?:::\w+)*)*?(?:\.v(\d))?\.[busf](\d+)\b", code)
    return [int(count or 1) * int(bits) for count, bits in found]


def _counted(widths: list[int]) -> dict[int, int]:
    return dict(sorted(Counter(widths).items()))
