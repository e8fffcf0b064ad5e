"""Sequence parallelism: one pack cut among several ranks (DeepSpeed Ulysses, Jacobs et al. 2023, arXiv:2309.14509).

Each rank of a group holds a stretch of the tokens, whatever document they are of. Before attention the ranks trade tokens for
heads: each then sees the whole pack in its share of the heads, documents that cross a cut included; after it they trade back.
Everything else works on tokens one by one, and a rank's loss is the sum over its own.
"""

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from mmpt.data.loading.packing import IGNORED, PackedBatch
from mmpt.errors import ConfigError


@dataclass(frozen=True)
class SequenceGroup:
    """The ranks that share a pack; this one is number `rank` of `size`."""

    group: dist.ProcessGroup
    rank: int
    size: int


def cut(batch: PackedBatch, sequence: SequenceGroup) -> PackedBatch:
    """This rank's stretch of `batch`: [1, ⌈T / size⌉] of each row; `cu_seqlens` stay those of the whole pack.

    A pack of another length than a multiple of `size` gets a last document of fewer than `size` tokens, with weight 0.
    """
    length = batch.input_ids.shape[1]
    missing = -length % sequence.size
    share = (length + missing) // sequence.size
    fill = {"input_ids": 0, "targets": IGNORED, "weights": 0.0, "position_ids": 0}
    rows = {name: torch.nn.functional.pad(getattr(batch, name), (0, missing), value=value) for name, value in fill.items()}
    own = slice(sequence.rank * share, (sequence.rank + 1) * share)
    edges = batch.cu_seqlens
    if missing:
        edges = torch.cat([edges, edges[-1:] + missing])
    return replace(batch, **{name: row[:, own] for name, row in rows.items()}, cu_seqlens=edges)


def heads_for_tokens(query: Tensor, key: Tensor, value: Tensor, sequence: SequenceGroup) -> tuple[Tensor, Tensor, Tensor]:
    """[1, heads, T / size, D] of this rank's tokens → [1, heads / size, T, D] of this rank's heads, for each of the three.

    Key-value heads are repeated as far as the ranks need. Raises `ConfigError` where the heads do not divide among the ranks.
    """
    if query.shape[1] % sequence.size:
        raise ConfigError(f"sequence_parallel: {query.shape[1]} heads do not divide among {sequence.size} ranks")
    # As few copies of each key-value head as let the ranks have equal shares.
    repeats = sequence.size // math.gcd(key.shape[1], sequence.size)
    if repeats > 1:
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
    query, key, value = (cast(Tensor, _Exchange.apply(part, sequence, 1, 2)) for part in (query, key, value))
    return query, key, value


def tokens_for_heads(found: Tensor, sequence: SequenceGroup) -> Tensor:
    """Of attention's result, [1, heads / size, T, D] → [1, heads, T / size, D]."""
    return cast(Tensor, _Exchange.apply(found, sequence, 2, 1))


class _Exchange(torch.autograd.Function):
    """Cut along dimension `apart`, a piece for each rank; what comes is put together along `together`."""

    @staticmethod
    def forward(ctx, x: Tensor, sequence: SequenceGroup, apart: int, together: int) -> Tensor:
        ctx.sequence, ctx.apart, ctx.together = sequence, apart, together
        return _exchanged(x, sequence, apart, together)

    @staticmethod
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]  # one result, one gradient
        # The exchange is a permutation of elements over the ranks: its transpose is the exchange the other way round.
        return _exchanged(grad, ctx.sequence, ctx.together, ctx.apart), None, None, None


def _exchanged(x: Tensor, sequence: SequenceGroup, apart: int, together: int) -> Tensor:
    given = torch.stack(x.chunk(sequence.size, dim=apart))
    found = torch.empty_like(given)
    dist.all_to_all_single(found, given, group=sequence.group)
    return torch.cat(found.unbind(0), dim=together)
