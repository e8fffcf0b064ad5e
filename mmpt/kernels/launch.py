"""Starting Triton kernels, with types: its own say that a kernel on a grid takes what the Python function takes, although the
call also has `num_warps` and turns plain numbers into compile-time ones."""

from collections.abc import Callable
from typing import Any, cast


def on_grid(kernel: object, *programs: int) -> Callable[..., None]:
    """`kernel`, a function under `triton.jit`, in so many programs along each axis; it takes its arguments and `num_warps`."""
    return cast(Any, kernel)[programs]


def power_of_two(number: int) -> int:
    """The least power of two that is `number` (1 or more) or above: a Triton block has no other size."""
    return 1 << (number - 1).bit_length()


def ceil_divide(number: int, block: int) -> int:
    """How many blocks of `block` hold `number`."""
    return -(-number // block)
