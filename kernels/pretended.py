"""A GPU that is not there: what mmpt would launch on it, from tensors without contents.

Under `pretended_gpu` new tensors are fake (shapes, dtypes and strides, no memory), say that they lie on a GPU and choose every
kernel as there. torch's autograd takes no tensors of a GPU without its driver, so underneath they are a CPU's. Triton kernels are
recorded where mmpt starts them, with all that a compiler has to know.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import mmpt.kernels
from mmpt.kernels import blocks
from mmpt.kernels.cross_entropy import adds_products


class Gpu(NamedTuple):
    """Its `name` by the driver; `capability` 90 for sm_90; bytes of shared memory that one program may have (CUDA C++ programming
    guide, technical specifications for each compute capability), bytes of memory."""

    name: str
    capability: int
    shared: int
    memory: float


A100 = Gpu("NVIDIA A100-SXM4-80GB", 80, 163 * 1024, 80e9)
H100 = Gpu("NVIDIA H100 80GB HBM3", 90, 227 * 1024, 80e9)
B200 = Gpu("NVIDIA B200", 100, 227 * 1024, 180e9)
GPUS = (A100, H100, B200)
KERNEL_FILES = sorted(path.stem for path in Path(mmpt.kernels.__file__).parent.glob("triton_*.py"))


class Launch(NamedTuple):
    """A Triton `kernel` (the file it is in, the function under `triton.jit`) on a `grid`, with what it was called with."""

    file: str
    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.file.removeprefix('triton_')} {self.kernel.fn.__name__.lstrip('_')}"

    def tensors(self) -> list[torch.Tensor]:
        """Each tensor once, although a kernel may be given one in several places."""
        found = [part for part in self.arguments if isinstance(part, torch.Tensor)]
        return list({id(part): part for part in found}.values())


class AddedInPlace(TorchDispatchMode):
    """A product added to a matrix of another dtype, which fake tensors cannot do (torch 2.10: their decomposition fails)."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten.addmm.dtype_out and options is not None:
            return options["out"]
        return function(*arguments, **(options or {}))


@contextmanager
def pretended_gpu(gpu: Gpu, started: Callable[[Launch], object]) -> Iterator[FakeTensorMode]:
    """Tensors made inside are fake and on `gpu`; `started` is told of each Triton kernel, which is not run."""

    def on_grid(kernel: object, *programs: int, file: str) -> Callable[..., None]:
        return lambda *arguments, **options: started(Launch(file, kernel, programs, arguments, options)) and None

    with ExitStack() as stack:
        for file in KERNEL_FILES:
            module = importlib.import_module(f"mmpt.kernels.{file}")
            stack.enter_context(patch.object(module, "on_grid", lambda *given, file=file: on_grid(*given, file=file)))
        stack.enter_context(patch.object(FakeTensor, "is_cuda", True, create=True))
        stack.enter_context(patch.object(torch.cuda, "get_device_name", lambda device=None: gpu.name))
        stack.enter_context(patch.object(torch.cuda, "get_device_capability", lambda device=None: divmod(gpu.capability, 10)))
        stack.enter_context(patch.object(torch.backends.cuda, "is_flash_attention_available", lambda: True))
        stack.enter_context(patch.object(blocks, "device_name", lambda device: gpu.name))
        for asked in (blocks.table, adds_products):
            asked.cache_clear()
            stack.callback(asked.cache_clear)
        fake = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(AddedInPlace())
        yield fake
