"""The loader: global steps of packs from one endless canonical stream, shared out to ranks, resumable from a few numbers."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from mmpt.data.loading.config import LongDocuments
from mmpt.data.loading.losses import Losses, lost_document
from mmpt.data.loading.order import BLOCK_DOCUMENTS, block_count, block_order, epoch_documents
from mmpt.data.loading.packing import PackedBatch, pack
from mmpt.data.loading.plan import BlockPlan, plan_block
from mmpt.data.loading.prefetch import prefetch
from mmpt.data.lost import Lost
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium, TokenDocument
from mmpt.errors import ConfigError, DataError
from mmpt.vocabulary import check_same

FORMAT = "mmpt-loader/3"
WINDOW = 1024
"""Documents in view while packs are planned; part of the canonical order."""


@dataclass(frozen=True)
class Position:
    """Where the stream stands: global steps done, and the next pack as (epoch, block, number in the block)."""

    step: int = 0
    epoch: int = 0
    block: int = 0
    pack: int = 0


@dataclass(frozen=True)
class _Step:
    """This rank's packs of a step, each as (plan of its block, number in it), and the position after it."""

    packs: list[tuple[BlockPlan, int]]
    following: Position


class Loader:
    """Iterates over global steps; each yields this rank's packs, `packs_per_step // world_size` of them.

    The packs of all epochs form one endless stream, a pure function of (sources, mixture, seed, and the settings of packing);
    step n is packs n · packs_per_step … of it, and rank r of W takes every W-th of them from the r-th. So what a step trains on
    depends on neither the number of ranks nor that of workers, nor on when the run was interrupted. The last step of an epoch
    is filled from the next one. An epoch is planned in blocks of about `block_documents`, when they are reached.

    `mixture` holds a weight for each source (see `epoch_documents`), None: each once an epoch; `loss` a factor on the loss
    weights of each source's documents. A pack holds documents of at most `pack_tokens` tokens and, where it is given, at most
    `max_images` pictures, as codes or as features; longer documents are split, text at any token, pictures and utterances whole
    (`long_documents`), or dropped. `epochs` ends the iteration after the step that holds the last pack of so many epochs; None:
    never. `workers` threads read ahead (0: none), and where nothing comes for `timeout` seconds the loop ends with an error.
    `read_medium` makes of each medium of a document what its encoder takes; without it the slots of media stay empty. `state` is
    what `state_dict` returned, on any number of ranks.

    A document that cannot be read is left out and listed in `lost`; more than a share of `max_lost` of them ends the loop. A
    pack of which nothing is left becomes one weightless `<|end|>`, so that all ranks stay in step.

    Raises `ConfigError` (mixture, packs_per_step and ranks that do not fit), `VocabularyError` (sources that disagree) and
    `DataError` (a state of other data or settings; no document that fits a pack; a damaged index; too much lost).
    """

    def __init__(
        self,
        sources: list[TokenShards],
        *,
        mixture: list[float] | None = None,
        loss: list[float] | None = None,
        pack_tokens: int,
        packs_per_step: int,
        seed: int,
        max_images: int | None = None,
        long_documents: LongDocuments = "split",
        block_documents: int = BLOCK_DOCUMENTS,
        rank: int = 0,
        world_size: int = 1,
        state: dict | None = None,
        epochs: int | None = None,
        workers: int = 1,
        timeout: float | None = 300.0,
        max_lost: float = 0.01,
        read_medium: Callable[[Medium], torch.Tensor] | None = None,
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
            "max_images": max_images,
            "long_documents": long_documents,
            "block_documents": block_documents,
            "seed": seed,
            "window": WINDOW,
        }
        self._rank, self._world_size, self._epochs = rank, world_size, epochs
        self._workers, self._timeout, self._loss = workers, timeout, loss or [1.0] * len(sources)
        self._shards = [source.shard_documents for source in sources]
        self._documents = epoch_documents(self._shards, self._settings["mixture"])
        self._blocks = block_count(self._documents, block_documents)
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self._losses, self._read_medium = Losses(max_lost), read_medium
        self._position = Position() if state is None else self._restore(state)

    def __iter__(self) -> Iterator[list[PackedBatch]]:
        """Yield the remaining steps."""
        steps = self._steps(self._position)
        for step, (batches, documents, lost) in prefetch(steps, self._read, self._workers, self._timeout, self._describe_step):
            self._position = step.following
            self._losses.count(documents, lost)
            yield batches

    def read_step(self, step: int) -> list[PackedBatch]:
        """This rank's packs of step `step` (from 1) of the stream, wherever the loader stands."""
        planned = next(found for found in self._steps(Position()) if found.following.step == step)
        return self._read(planned)[0]

    @property
    def lost(self) -> list[Lost]:
        """Every document that this rank could not read so far."""
        return self._losses.lost

    def state_dict(self) -> dict:
        """JSON values from which a loader on any number of ranks goes on after the last step that was yielded."""
        return {"format": FORMAT, **vars(self._position), "settings": self._settings, "fingerprint": _fingerprint(self._settings)}

    def describe(self) -> dict[str, float]:
        """Where the stream stands, and figures of the current block: documents, dropped_documents (pieces and parts of documents
        too), packs, tokens, tokens_left_out (of the documents, in no pack) and their share, steps, and fill (mean tokens /
        pack_tokens)."""
        plan = self._plan(self._position.epoch, self._position.block)
        return {
            "epoch": self._position.epoch,
            "block": self._position.block,
            "blocks": self._blocks,
            "documents": sum(map(len, plan.packs)),
            "dropped_documents": plan.dropped,
            "packs": len(plan.packs),
            "tokens": plan.tokens,
            "tokens_left_out": plan.left_out,
            "share_left_out": plan.left_out / max(1, plan.there),
            "steps": len(plan.packs) / self._settings["packs_per_step"],
            "fill": plan.tokens / max(1, len(plan.packs) * self._settings["pack_tokens"]),
        }

    def summary(self) -> str:
        """`describe` as a sentence, for whoever starts a training."""
        found, budget = self.describe(), self._settings["pack_tokens"]
        block = f" (block {found['block'] + 1} of {found['blocks']})" if found["blocks"] > 1 else ""
        tokens, left_out, dropped = (found[name] for name in ("tokens", "tokens_left_out", "dropped_documents"))
        return (
            f"data: {found['documents']:,} documents or pieces of them, {tokens:,} tokens, in {found['packs']:,} packs of at "
            f"most {budget:,} tokens ({found['fill']:.1%} full), {found['steps']:,.1f} steps{block}; left out: "
            f"{found['share_left_out']:.2%} of the tokens ({left_out:,}, in {dropped:,} documents or parts that fit no pack)"
        )

    def _make_plan(self, epoch: int, block: int) -> BlockPlan:
        settings = self._settings
        rows = block_order(self._shards, self._documents, settings["seed"], epoch, block, self._blocks)
        return plan_block(
            self._sources, rows, settings["pack_tokens"], WINDOW, settings["max_images"], settings["long_documents"]
        )

    def _steps(self, position: Position) -> Iterator[_Step]:
        """The steps from `position` on, planned but not read."""
        step, epoch, block, number = position.step, position.epoch, position.block, position.pack
        empty = 0
        while self._epochs is None or epoch < self._epochs:
            packs = []
            for place in range(self._settings["packs_per_step"]):
                while not self._plan(epoch, block).packs:
                    empty += 1
                    if empty > self._blocks:
                        plan = self._plan(epoch, block)
                        raise DataError(
                            f"no document fits a pack of {self._settings['pack_tokens']} tokens: {plan.dropped} of "
                            f"{len(plan.rows)} dropped"
                        )
                    epoch, block = (epoch, block + 1) if block + 1 < self._blocks else (epoch + 1, 0)
                empty = 0
                plan = self._plan(epoch, block)
                # Every rank walks all packs of the step, and keeps its own: so all stay in step without a word to each other.
                if place % self._world_size == self._rank:
                    packs.append((plan, number))
                number += 1
                if number == len(plan.packs):
                    epoch, block, number = (epoch, block + 1, 0) if block + 1 < self._blocks else (epoch + 1, 0, 0)
            step += 1
            yield _Step(packs, Position(step, epoch, block, number))

    def _read(self, step: _Step) -> tuple[list[PackedBatch], int, list[Lost]]:
        """(the packs, documents asked for, those of them that could not be read)."""
        batches, asked, lost = [], 0, []
        for plan, number in step.packs:
            found, inputs = [], []
            for row, start, end in plan.pieces[plan.packs[number]].tolist():
                source, shard, place = plan.rows[row].tolist()
                asked += 1
                try:
                    document = self._sources[source].read(shard, place)
                    piece = document if end - start == len(document.ids) else _piece(document, start, end)
                    inputs.append(self._media(piece))
                except DataError as problem:
                    lost.append(lost_document(problem))
                    continue
                found.append(_weighted(piece, self._loss[source]))
            if not found:
                found, inputs = [self._nothing()], [[]]
            batches.append(pack(found, inputs if self._read_medium else None))
        return batches, asked, lost

    def _media(self, document: TokenDocument) -> list[torch.Tensor]:
        try:
            return [self._read_medium(medium) for medium in document.media] if self._read_medium else []
        except DataError as problem:
            raise DataError(f"{document.id}: {problem}") from None

    def _nothing(self) -> TokenDocument:
        end = self._sources[0].vocabulary.special("<|end|>")
        return TokenDocument("", "", np.array([end]), np.zeros(1, dtype=np.float32))

    def _describe_step(self, step: _Step) -> str:
        rows = np.concatenate([plan.rows[plan.pieces[plan.packs[number], 0]] for plan, number in step.packs])
        paths = dict.fromkeys(str(self._sources[source].shard_path(shard)) for source, shard in rows[:, :2].tolist())
        return f"step {step.following.step} reads from {', '.join(list(paths)[:3])}" + (" …" if len(paths) > 3 else "")

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
        found = [state.get(name) for name in ("step", "epoch", "block", "pack")]
        numbers = [number for number in found if type(number) is int and number >= 0]
        if len(numbers) < len(found):
            raise DataError(f"loader state: step, epoch, block and pack are {found}, expected whole numbers of 0 or more")
        position = Position(*numbers)
        if position.block >= self._blocks:
            raise DataError(f"loader state: block is {position.block}, but an epoch has {self._blocks}")
        if position.pack >= max(1, len(self._plan(position.epoch, position.block).packs)):
            raise DataError(f"loader state: pack is {position.pack}, but block {position.block} has fewer")
        return position


def _piece(document: TokenDocument, start: int, end: int) -> TokenDocument:
    if document.rejected or document.advantage is not None:
        raise DataError(f"{document.id}: {len(document.ids)} tokens to be compared as a whole, which no pack holds")
    weights = None if document.weights is None else document.weights[start:end]
    media = tuple(replace(one, start=one.start - start) for one in document.media if start <= one.start < end)
    return TokenDocument(f"{document.id}#{start}", document.source, document.ids[start:end], weights, media)


def _weighted(document: TokenDocument, factor: float) -> TokenDocument:
    if factor == 1.0:
        return document
    own = np.ones(len(document.ids), dtype=np.float32) if document.weights is None else document.weights
    return replace(document, weights=own * np.float32(factor))


def _content(source: TokenShards) -> str:
    """SHA-256 over the content of a set of token shards, wherever its folder lies."""
    hashes = [shard.sha256 for shard in source.manifest.shards]
    return _fingerprint({"shards": hashes, "vocabulary": source.vocabulary.fingerprint})


def _fingerprint(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
