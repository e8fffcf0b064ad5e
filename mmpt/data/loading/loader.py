"""The loader: global steps of packs from one endless canonical stream, shared out to ranks, resumable from a few numbers."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmpt.data.loading.order import document_order
from mmpt.data.loading.packing import PackedBatch, pack, plan_packs
from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError, DataError
from mmpt.vocabulary import check_same

FORMAT = "mmpt-loader/1"
WINDOW = 1024
"""Documents in view while packs are planned; part of the canonical order, so changing it is a change of `FORMAT`."""


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: the `order` of documents, `packs` of positions in it, the `tokens` in all packs, and the documents `dropped`."""

    order: np.ndarray
    packs: list[np.ndarray]
    tokens: int
    dropped: int


@dataclass(frozen=True)
class Position:
    """Where the stream stands: global steps done, and the next pack as (epoch, number within the epoch)."""

    step: int = 0
    epoch: int = 0
    pack: int = 0


class Loader:
    """Iterates over global steps; each yields this rank's packs, `packs_per_step // world_size` of them.

    The packs of all epochs form one endless stream, a pure function of (sources, mixture, pack_tokens, seed); step n is packs
    n · packs_per_step … of it, and rank r of W takes every W-th of them from the r-th. So what a step trains on depends
    neither on the number of ranks nor on when the run was interrupted. The last step of an epoch is filled from the next one.

    `mixture` holds a weight for each source (see `document_order`), None: each once an epoch. `epochs` ends the iteration
    after the step that holds the last pack of so many epochs; None: never. `state` is what `state_dict` returned, on
    any number of ranks.

    Raises `ConfigError` (mixture, packs_per_step and ranks that do not fit), `VocabularyError` (sources that disagree) and
    `DataError` (a state of other data or settings; no document that fits a pack).
    """

    def __init__(
        self,
        sources: list[TokenShards],
        *,
        mixture: list[float] | None = None,
        pack_tokens: int,
        packs_per_step: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        state: dict | None = None,
        epochs: int | None = None,
    ) -> None:
        if not sources:
            raise ConfigError("data: no source to load from")
        if packs_per_step < 1 or packs_per_step % world_size or not 0 <= rank < world_size:
            raise ConfigError(
                f"packs_per_step is {packs_per_step}, expected a multiple of the {world_size} ranks (this is rank {rank})"
            )
        for other in sources[1:]:
            check_same(sources[0].vocabulary, str(sources[0].folder), other.vocabulary, str(other.folder))
        self._sources = sources
        self._settings = {
            "sources": [_content(source) for source in sources],
            "mixture": [1.0] * len(sources) if mixture is None else [float(weight) for weight in mixture],
            "pack_tokens": pack_tokens,
            "packs_per_step": packs_per_step,
            "seed": seed,
            "window": WINDOW,
        }
        self._rank, self._world_size, self._epochs = rank, world_size, epochs
        self._lengths = np.concatenate([source.lengths for source in sources])
        self._starts = np.cumsum([0, *map(len, sources)])
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self._position = Position() if state is None else self._restore(state)

    def __iter__(self) -> Iterator[list[PackedBatch]]:
        """Yield the remaining steps. While one is being used, the next is read in a thread."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmpt-loader") as thread:
            ahead = thread.submit(self._read, self._position)
            while True:
                step = ahead.result()
                if step is None:
                    return
                batches, following = step
                ahead = thread.submit(self._read, following)
                self._position = following
                yield batches

    def state_dict(self) -> dict:
        """JSON values from which a loader on any number of ranks goes on after the last step that was yielded."""
        return {"format": FORMAT, **vars(self._position), "settings": self._settings, "fingerprint": _fingerprint(self._settings)}

    def describe(self) -> dict[str, float]:
        """Figures of the current epoch: documents, dropped_documents, packs, tokens, and fill (mean tokens / pack_tokens)."""
        plan = self._plan(self._position.epoch)
        return {
            "epoch": self._position.epoch,
            "documents": len(plan.order) - plan.dropped,
            "dropped_documents": plan.dropped,
            "packs": len(plan.packs),
            "tokens": plan.tokens,
            "steps": len(plan.packs) / self._settings["packs_per_step"],
            "fill": plan.tokens / (len(plan.packs) * self._settings["pack_tokens"]),
        }

    def _make_plan(self, epoch: int) -> EpochPlan:
        sizes, settings = [len(source) for source in self._sources], self._settings
        order = document_order(sizes, settings["mixture"], settings["seed"], epoch)
        lengths = self._lengths[self._starts[order[:, 0]] + order[:, 1]]
        packs, dropped = plan_packs(lengths, settings["pack_tokens"], settings["window"])
        if not packs:
            raise DataError(
                f"no document fits a pack of {settings['pack_tokens']} tokens: {len(dropped)} of {len(order)} dropped"
            )
        return EpochPlan(order, packs, int(lengths.sum() - lengths[dropped].sum()), len(dropped))

    def _read(self, position: Position) -> tuple[list[PackedBatch], Position] | None:
        """(this rank's packs of the step at `position`, the position after it), None after the last step."""
        if self._epochs is not None and position.epoch >= self._epochs:
            return None
        batches, epoch, number = [], position.epoch, position.pack
        for place in range(self._settings["packs_per_step"]):
            plan = self._plan(epoch)
            if place % self._world_size == self._rank:
                rows = plan.order[plan.packs[number]].tolist()
                batches.append(pack([self._sources[source][index] for source, index in rows]))
            number += 1
            if number == len(plan.packs):
                epoch, number = epoch + 1, 0
        return batches, Position(position.step + 1, epoch, number)

    def _restore(self, state: dict) -> Position:
        if state.get("format") != FORMAT:
            raise DataError(f"loader state: format is {state.get('format')!r}, expected {FORMAT!r}")
        saved = state.get("settings", {})
        if state.get("fingerprint") != _fingerprint(self._settings):
            differences = [
                f"  {name}: {saved.get(name)!r} then, {value!r} now"
                for name, value in self._settings.items()
                if saved.get(name) != value
            ]
            raise DataError("loader state: of other data or settings:\n" + "\n".join(differences or ["  fingerprint"]))
        numbers = [state.get(name) for name in ("step", "epoch", "pack")]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise DataError(f"loader state: step, epoch and pack are {numbers}, expected whole numbers of 0 or more")
        position = Position(*numbers)
        if position.pack >= len(self._plan(position.epoch).packs):
            raise DataError(f"loader state: pack is {position.pack}, but epoch {position.epoch} has fewer")
        return position


def _content(source: TokenShards) -> str:
    """SHA-256 over the content of a set of token shards, wherever its folder lies."""
    hashes = [shard["sha256"] for shard in source.manifest["shards"]]
    return _fingerprint({"shards": hashes, "vocabulary": source.vocabulary.fingerprint})


def _fingerprint(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
