"""What every quantiser takes and gives."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Quantized:
    """`states` [..., D] with straight-through gradient, `codes` int64 [...] (of a residual quantiser [..., stages]), and the
    `loss` summed over the `count` vectors that it was taken of (both scalars, 0 outside training)."""

    states: torch.Tensor
    codes: torch.Tensor
    loss: torch.Tensor
    count: torch.Tensor


class QuantizerModule(nn.Module):
    """The module of a `Quantizer`."""

    if TYPE_CHECKING:

        def __call__(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized: ...

    @abstractmethod
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]. In training it learns only of inputs where `mask` [...] (bool) is true (default: all)."""

    @abstractmethod
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors float32 [..., D] of `codes` [...] (of a residual quantiser [..., stages])."""

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., D] as it is before its code is chosen, so that what is learned of it before quantisation sets in still holds
        afterwards."""
        return x

    def begin(self, rows: torch.Tensor) -> None:
        """Begin from `rows` [n, D] of what will be quantised rather than from the first batch."""

    def restart_count(self) -> int:
        """How many dead codes were restarted so far."""
        return 0


def without_loss(states: torch.Tensor, codes: torch.Tensor) -> Quantized:
    """Of a quantiser that asks nothing of its inputs."""
    zero = torch.zeros((), dtype=torch.float32, device=states.device)
    return Quantized(states, codes, zero, zero)


class ExactBuffers(QuantizerModule):
    """Buffers stay float32 whatever the module is cast to: what follows the data by small steps cannot do so in bfloat16."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        # `fn` may have moved and cast at once: the device is taken from its result, the values from before it.
        for name, buffer in exact.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def of_all_ranks(rows: torch.Tensor) -> torch.Tensor:
    """The rows [n, D] of rank 0, then those of rank 1, …; n may differ."""
    if ranks() == 1:
        return rows
    # all_gather takes equal shapes alone: sizes first, then rows padded to the longest, then the padding cut off.
    sizes = torch.zeros(ranks(), dtype=torch.int64, device=rows.device)
    sizes[dist.get_rank()] = len(rows)
    dist.all_reduce(sizes)
    padded = F.pad(rows, (0, 0, 0, int(sizes.max()) - len(rows)))
    gathered = [torch.empty_like(padded) for _ in range(ranks())]
    dist.all_gather(gathered, padded.contiguous())
    return torch.cat([piece[:size] for piece, size in zip(gathered, sizes.tolist(), strict=True)])
