"""The loader of raw documents, for what trains on pictures and audio: same order, same resume, decoded ahead in threads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from mmpt.data.loading.losses import Losses, lost_document
from mmpt.data.loading.order import BLOCK_DOCUMENTS, block_count, block_order, epoch_documents
from mmpt.data.loading.prefetch import prefetch
from mmpt.data.lost import Lost
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError

FORMAT = "mmpt-documents/2"
T = TypeVar("T")


@dataclass(frozen=True)
class _Step:
    rows: np.ndarray
    state: dict


class DocumentLoader(Generic[T]):
    """Iterates over steps; each yields `decode(document)` for this rank's share of the next `batch_size` documents.

    The documents of all epochs form one endless stream (see `mmpt.data.loading.order`); step n is the documents n · batch_size
    … of it, and rank r of W takes every W-th from the r-th. `decode` runs in `workers` threads (0: in the caller); libraries
    that decode pictures and audio run beside each other there. A document that cannot be read, or for which `decode` raises
    `DataError`, is left out of its batch and listed in `losses`. `epochs` ends the iteration with the last whole step of so
    many epochs; `state` is what `state_dict` returned, on any number of ranks.

    Raises `ConfigError` (mixture, ranks) and `DataError` (a state of other settings, no document, too much lost, a stall).
    """

    def __init__(
        self,
        sources: list[DocumentShards],
        *,
        batch_size: int,
        decode: Callable[[Document], T],
        seed: int,
        mixture: list[float] | None = None,
        block_documents: int = BLOCK_DOCUMENTS,
        rank: int = 0,
        world_size: int = 1,
        state: dict | None = None,
        epochs: int | None = None,
        workers: int = 1,
        timeout: float | None = 300.0,
        max_lost: float = 0.01,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"batch_size is {batch_size}, rank {rank} of {world_size}: expected at least 1, and a rank below")
        self._sources, self._decode = sources, decode
        self._shards = [source.shard_documents for source in sources]
        self._settings = {
            "shards": [[shard.sha256 for shard in source.manifest.shards] for source in sources],
            "mixture": [1.0] * len(sources) if mixture is None else [float(weight) for weight in mixture],
            "batch_size": batch_size,
            "block_documents": block_documents,
            "seed": seed,
        }
        self._documents = epoch_documents(self._shards, self._settings["mixture"])
        if not sum(self._documents):
            raise DataError("no document in any source")
        self._blocks = block_count(self._documents, block_documents)
        self._rank, self._world_size, self._epochs = rank, world_size, epochs
        self._workers, self._timeout, self.losses = workers, timeout, Losses(max_lost)
        self._order = lru_cache(maxsize=2)(self._block)
        self._state = {"step": 0, "epoch": 0, "block": 0, "document": 0} if state is None else self._restore(state)

    def __iter__(self) -> Iterator[list[T]]:
        """Yield the remaining steps."""
        for step, (found, lost) in prefetch(self._steps(), self._read, self._workers, self._timeout, self._describe):
            self._state = step.state
            self.losses.count(len(step.rows), lost)
            yield found

    def state_dict(self) -> dict:
        """JSON values from which a loader on any number of ranks goes on after the last step that was yielded."""
        return {"format": FORMAT, **self._state, "settings": self._settings}

    def _block(self, epoch: int, block: int) -> np.ndarray:
        return block_order(self._shards, self._documents, self._settings["seed"], epoch, block, self._blocks)

    def _steps(self) -> Iterator[_Step]:
        step, epoch, block, place = (self._state[name] for name in ("step", "epoch", "block", "document"))
        while True:
            rows, missing = [], self._settings["batch_size"]
            while missing:
                if self._epochs is not None and epoch >= self._epochs:
                    return
                taken = self._order(epoch, block)[place : place + missing]
                rows.append(taken)
                missing -= len(taken)
                place += len(taken)
                if place == len(self._order(epoch, block)):
                    epoch, block, place = (epoch, block + 1, 0) if block + 1 < self._blocks else (epoch + 1, 0, 0)
            step += 1
            own = np.concatenate(rows)[self._rank :: self._world_size]
            yield _Step(own, {"step": step, "epoch": epoch, "block": block, "document": place})

    def _read(self, step: _Step) -> tuple[list[T], list[Lost]]:
        found, lost = [], []
        for source, shard, number in step.rows.tolist():
            try:
                document = self._sources[source].read(shard, number)
            except DataError as problem:
                lost.append(lost_document(problem))
                continue
            try:
                found.append(self._decode(document))
            except DataError as problem:
                lost.append(Lost(document.id, str(problem), document.id))
        return found, lost

    def _describe(self, step: _Step) -> str:
        paths = dict.fromkeys(str(self._sources[source].shard_path(shard)) for source, shard in step.rows[:, :2].tolist())
        return f"step {step.state['step']} reads from {', '.join(list(paths)[:3])}" + (" …" if len(paths) > 3 else "")

    def _restore(self, state: dict) -> dict:
        if state.get("format") != FORMAT or state.get("settings") != self._settings:
            raise DataError("loader state: of other data or settings")
        return {name: state[name] for name in ("step", "epoch", "block", "document")}
