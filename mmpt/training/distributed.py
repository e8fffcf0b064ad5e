"""The process group: what torchrun started, or this process alone."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from mmpt.errors import ConfigError, DataError
from mmpt.model.sequence import SequenceGroup
from mmpt.training.watch import Watch, watching

TIMEOUT = timedelta(minutes=30)  # the others wait where one has the larger share of a checkpoint's model to write


@dataclass(frozen=True)
class World:
    """This process' `rank` of `size`, the device on which it computes, the ranks with which it shares packs, if any, and what
    watches over it."""

    rank: int
    size: int
    device: torch.device
    sequence: SequenceGroup | None = None
    watch: Watch | None = None

    def mark(self, doing: str) -> None:
        """Tell the watch, if there is one, what this rank is about to do."""
        if self.watch is not None:
            self.watch.mark(doing)

    @property
    def reader(self) -> tuple[int, int]:
        """(rank, size) as the loader counts them: ranks that share packs read the same ones."""
        shared = self.sequence.size if self.sequence else 1
        return self.rank // shared, self.size // shared

    def sharing(self, ranks: int) -> "World":
        """The same with every `ranks` neighbours sharing packs; all ranks call it. Raises `ConfigError` where that is uneven."""
        if ranks == 1:
            return self
        if self.size % ranks:
            raise ConfigError(f"loader.sequence_parallel is {ranks}, expected a divisor of the {self.size} ranks")
        groups = [dist.new_group(list(range(first, first + ranks))) for first in range(0, self.size, ranks)]
        return replace(
            self, sequence=SequenceGroup(cast(dist.ProcessGroup, groups[self.rank // ranks]), self.rank % ranks, ranks)
        )

    def gather(self, text: str) -> list[str]:
        """The text of every rank, on every rank."""
        own = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        sizes = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(own)
        sizes = self.sum(sizes).tolist()
        rows = torch.zeros(self.size, max(sizes), dtype=torch.int32, device=self.device)
        rows[self.rank, : len(own)] = own.to(self.device, torch.int32)
        rows = self.sum(rows).to("cpu", torch.uint8).numpy()
        return [row[:size].tobytes().rstrip(b"\0").decode() for row, size in zip(rows, sizes, strict=True)]

    def by_first(self, name: str, work: Callable[[], str]) -> str:
        """What `work` gives on rank 0, on every rank; the others do nothing but wait, however long it takes. `name` is asked once
        in a process group. Raises what `work` raises on rank 0, and on the others a `DataError` that says so."""
        if self.size == 1:
            return work()
        store = dist.distributed_c10d._get_default_store()
        if self.rank == 0:
            try:
                said = work()
            except BaseException as problem:
                store.set(name, f"-{problem}")
                raise
            store.set(name, f"+{said}")
            return said
        while not store.check([name]):
            time.sleep(0.1)
        answer = store.get(name).decode()
        if answer[0] == "-":
            raise DataError(f"rank 0: {answer[1:]}")
        return answer[1:]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of `values` over all ranks, in place; the same bits on every rank."""
        dist.all_reduce(values)
        return values


@contextmanager
def world() -> Iterator[World]:
    """Join the process group (nccl on GPUs, gloo on CPUs) and leave it again; an abandoned group can abort at exit."""
    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    backend = "nccl" if cuda else "gloo"
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        local = int(os.environ.setdefault("LOCAL_RANK", "0"))
        dist.init_process_group(backend, timeout=TIMEOUT)
    else:
        local = 0
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed reads it even where there is one process
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


@contextmanager
def watched(world: World, stall: float | None) -> Iterator[World]:
    """`world` with a `Watch` while inside: where a rank dies, or none moves on for `stall` seconds, the run ends and says why."""
    with watching(stall) as watch:
        yield replace(world, watch=watch)
