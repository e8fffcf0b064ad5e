"""The process group: what torchrun started, or this process alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

TIMEOUT = timedelta(minutes=30)  # rank 0 writes checkpoints alone while the others wait


@dataclass(frozen=True)
class World:
    """This process' `rank` of `size`, and the device on which it computes."""

    rank: int
    size: int
    device: torch.device

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
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
