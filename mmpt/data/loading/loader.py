"""The loader: global steps of packs from one endless canonical stream, shared out to ranks, resumable from a few numbers."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from mmpt.data.loading.config import LongDocuments, packs_of_step
from mmpt.data.loading.losses import Losses, lost_document
from mmpt.data.loading.order import BLOCK_DOCUMENTS, block_count, block_order, epoch_documents
from mmpt.data.loading.packing import PackedBatch, pack
from mmpt.data.loading.phases import Phase, phase_order
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
    """Where the stream stands: global steps done, and the next pack as (epoch, block, number in the block). With phases: which of
    them the epoch is one of, and how many documents each source had given when it began."""

    step: int = 0
    epoch: int = 0
    block: int = 0
    pack: int = 0
    phase: int = 0
    taken: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Step:
    """This rank's packs of a step, each as (plan of its block, number in it), None where there is none left, and the position
    after it."""

    packs: list[tuple[BlockPlan, int] | None]
    following: Position


class Loader:
    """Iterates over global steps; each yields this rank's packs, `packs_per_step // world_size` of them. `ramp`: (until step,
    packs) of the steps before that have others, in order.

    The packs of all epochs form one endless stream, a pure function of (sources, mixture, seed, and the settings of packing);
    step n is n − 1 steps' packs further on, and rank r of W takes every W-th of them from the r-th. So what a step trains on
    depends on neither the number of ranks nor that of workers, nor on when the run was interrupted. The last step of an epoch
    is filled from the next one; that of the last epoch, where `fill` is false, with weightless packs. An epoch is planned in
    blocks of about `block_documents`, when they are reached.

    `mixture` holds a weight for each source (see `epoch_documents`), None: each once an epoch; `phases` in its place weights that
    change at given steps (see `mmpt.data.loading.phases`); `loss` a factor on the loss weights of each source's documents. A pack
    holds documents of at most `pack_tokens` tokens and, where it is given, at most `max_images` pictures, as codes or as
    features; longer documents are split, text at any token, pictures and utterances whole (`long_documents`), or dropped.
    `epochs` ends the iteration after the step that holds the last pack of so many epochs; None: never. `workers` threads read
    ahead (0: none), and where nothing comes for `timeout` seconds the loop ends with an error.
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
        phases: list[Phase] | None = None,
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
        fill: bool = True,
        ramp: Sequence[tuple[int, int]] = (),
        workers: int = 1,
        timeout: float | None = 300.0,
        max_lost: float = 0.01,
        read_medium: Callable[[Medium], torch.Tensor] | None = None,
    ) -> None:
        if not sources:
            raise ConfigError("data: no source to load from")
        for packs in (packs_per_step, *(packs for _, packs in ramp)):
            if packs < 1 or packs % world_size or not 0 <= rank < world_size:
                raise ConfigError(
                    f"packs_per_step is {packs}, expected a multiple of the {world_size} ranks (this is rank {rank})"
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
            **({"ramp": [list(one) for one in ramp]} if ramp else {}),
        }
        if phases:
            if epochs is not None or mixture is not None:
                raise ConfigError("phases go with neither mixture nor epochs")
            del self._settings["mixture"]
            self._settings["phases"] = [[phase.until, [float(weight) for weight in phase.weights]] for phase in phases]
        self._phases = phases or []
        self._rank, self._world_size, self._epochs, self._fill = rank, world_size, epochs, fill
        self._workers, self._timeout, self._loss = workers, timeout, loss or [1.0] * len(sources)
        self._shards = [source.shard_documents for source in sources]
        mixtures = [list(phase.weights) for phase in self._phases] or [self._settings["mixture"]]
        self._documents = [epoch_documents(self._shards, weights) for weights in mixtures]
        self._blocks = [block_count(documents, block_documents) for documents in self._documents]
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self._losses, self._read_medium = Losses(max_lost), read_medium
        self._start = Position(taken=(0,) * len(sources) if self._phases else ())
        self._position = self._start if state is None else self._restore(state)

    def __iter__(self) -> Iterator[list[PackedBatch]]:
        """Yield the remaining steps."""
        steps = self._steps(self._position)
        for step, (batches, documents, lost) in prefetch(steps, self._read, self._workers, self._timeout, self._describe_step):
            self._position = step.following
            self._losses.count(documents, lost)
            yield batches

    def read_step(self, step: int) -> list[PackedBatch]:
        """This rank's packs of step `step` (from 1) of the stream, wherever the loader stands."""
        planned = next(found for found in self._steps(self._start) if found.following.step == step)
        return self._read(planned)[0]

    @property
    def lost(self) -> list[Lost]:
        """Every document that this rank could not read so far."""
        return self._losses.lost

    def state_dict(self) -> dict:
        """JSON values from which a loader on any number of ranks goes on after the last step that was yielded."""
        place = {**vars(self._position), "taken": list(self._position.taken)}
        if not self._phases:
            del place["phase"], place["taken"]
        return {"format": FORMAT, **place, "settings": self._settings, "fingerprint": _fingerprint(self._settings)}

    def describe(self) -> dict[str, float]:
        """Where the stream stands, and figures of the current block: documents, dropped_documents (pieces and parts of documents
        too), packs, tokens, tokens_left_out (of the documents, in no pack) and their share, steps, and fill (mean tokens /
        pack_tokens)."""
        plan = self._at(self._position)
        return {
            "epoch": self._position.epoch,
            "block": self._position.block,
            "blocks": self._blocks[self._position.phase],
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
        block += f" (phase {self._position.phase + 1} of {len(self._phases)})" if self._phases else ""
        tokens, left_out, dropped = (found[name] for name in ("tokens", "tokens_left_out", "dropped_documents"))
        return (
            f"data: {found['documents']:,} documents or pieces of them, {tokens:,} tokens, in {found['packs']:,} packs of at "
            f"most {budget:,} tokens ({found['fill']:.1%} full), {found['steps']:,.1f} steps{block}; left out: "
            f"{found['share_left_out']:.2%} of the tokens ({left_out:,}, in {dropped:,} documents or parts that fit no pack)"
        )

    def _at(self, at: Position) -> BlockPlan:
        """The plan of the block in which the stream stands."""
        return self._plan(at.phase, at.taken, at.epoch, at.block)

    def _make_plan(self, phase: int, taken: tuple[int, ...], epoch: int, block: int) -> BlockPlan:
        settings, documents, blocks = self._settings, self._documents[phase], self._blocks[phase]
        if self._phases:
            place = (settings["seed"], phase, epoch, block)
            rows = phase_order(self._shards, documents, taken, place, blocks, settings["block_documents"])
        else:
            rows = block_order(self._shards, documents, settings["seed"], epoch, block, blocks)
        return plan_block(
            self._sources, rows, settings["pack_tokens"], WINDOW, settings["max_images"], settings["long_documents"]
        )

    def _steps(self, at: Position) -> Iterator[_Step]:
        """The steps from `at` on, planned but not read."""
        empty = 0
        while self._epochs is None or at.epoch < self._epochs:
            at = self._entered(at)
            packs: list[tuple[BlockPlan, int] | None] = []
            for place in range(self._packs(at.step + 1)):
                if not self._fill and self._epochs is not None and at.epoch >= self._epochs:
                    packs += [None] if place % self._world_size == self._rank else []
                    continue
                while not (plan := self._at(at)).packs:
                    empty += 1
                    if empty > self._blocks[at.phase]:
                        raise DataError(
                            f"no document fits a pack of {self._settings['pack_tokens']} tokens: {plan.dropped} of "
                            f"{len(plan.rows)} dropped"
                        )
                    at = self._next_block(at)
                empty = 0
                # Every rank walks all packs of the step, and keeps its own: so all stay in step without a word to each other.
                if place % self._world_size == self._rank:
                    packs.append((plan, at.pack))
                at = replace(at, pack=at.pack + 1)
                if at.pack == len(plan.packs):
                    at = self._next_block(at)
            at = replace(at, step=at.step + 1)
            yield _Step(packs, at)

    def _next_block(self, at: Position) -> Position:
        last = at.block + 1 == self._blocks[at.phase]
        return replace(at, epoch=at.epoch + last, block=0 if last else at.block + 1, pack=0)

    def _entered(self, at: Position) -> Position:
        """`at`, or the beginning of the phase that follows where the next step is the first of it."""
        while at.phase + 1 < len(self._phases) and at.step >= self._phases[at.phase].until:
            given, blocks, begun = self._documents[at.phase], self._blocks[at.phase], [0] * len(self._sources)
            if at.pack:
                plan = self._at(at)
                rows = np.unique(plan.pieces[np.concatenate(plan.packs[: at.pack]), 0])
                begun = np.bincount(plan.rows[rows, 0], minlength=len(given)).tolist()
            taken = [
                before + at.epoch * count + count * at.block // blocks + here
                for before, count, here in zip(at.taken, given, begun, strict=True)
            ]
            at = Position(at.step, phase=at.phase + 1, taken=tuple(taken))
        return at

    def _packs(self, step: int) -> int:
        """Packs of step `step` (from 1) over all ranks."""
        return packs_of_step(step, self._settings["packs_per_step"], self._settings.get("ramp", ()))

    def _read(self, step: _Step) -> tuple[list[PackedBatch], int, list[Lost]]:
        """(the packs, documents asked for, those of them that could not be read)."""
        batches, asked, lost = [], 0, []
        for planned in step.packs:
            found, inputs = [], []
            if planned is None:
                batches.append(pack([self._nothing()], [[]] if self._read_medium else None))
                continue
            plan, number = planned
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
        rows = np.concatenate([plan.rows[plan.pieces[plan.packs[number], 0]] for plan, number in filter(None, step.packs)])
        paths = dict.fromkeys(str(self._sources[source].shard_path(shard)) for source, shard in rows[:, :2].tolist())
        return f"step {step.following.step} reads from {', '.join(list(paths)[:3])}" + (" …" if len(paths) > 3 else "")

    def _restore(self, state: dict) -> Position:
        if state.get("format") != FORMAT:
            raise DataError(f"loader state: format is {state.get('format')!r}, expected {FORMAT!r}")
        saved = state.get("settings", {})
        if state.get("fingerprint") != _fingerprint(self._settings):
            differences = [
                f"  {name}: {saved.get(name)!r} then, {self._settings.get(name)!r} now"
                for name in {**self._settings, **saved}
                if saved.get(name) != self._settings.get(name)
            ]
            raise DataError("loader state: of other data or settings:\n" + "\n".join(differences or ["  fingerprint"]))
        found = [state.get(name) for name in ("step", "epoch", "block", "pack")]
        found += [state.get("phase"), *(state.get("taken") or ())] if self._phases else [0]
        numbers = [number for number in found if type(number) is int and number >= 0]
        if len(numbers) < len(found):
            raise DataError(f"loader state: step, epoch, block and pack are {found}, expected whole numbers of 0 or more")
        position = Position(*numbers[:5], taken=tuple(numbers[5:]))
        if len(position.taken) != len(self._start.taken) or position.phase >= len(self._documents):
            raise DataError(f"loader state: phase {position.phase} of documents {list(position.taken)} is none of this mixture")
        blocks = self._blocks[position.phase]
        if position.block >= blocks:
            raise DataError(f"loader state: block is {position.block}, but an epoch has {blocks}")
        if position.pack >= max(1, len(self._at(position).packs)):
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
