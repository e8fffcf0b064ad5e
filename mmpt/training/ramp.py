"""Steps of different numbers of packs."""

from collections.abc import Iterable, Iterator
from typing import Any

from mmpt.training.trainer import Engine


def ramped(engine: Engine, batches: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """`batches`, and before each step the engine is told how many there are: DeepSpeed counts packs to know where a step ends."""
    deepspeed: Any = engine
    for given in batches:
        deepspeed.set_train_batch_size(len(given) * deepspeed.dp_world_size)
        deepspeed.micro_steps = 0  # a step ends at a multiple of its packs, and those before had others
        yield given
