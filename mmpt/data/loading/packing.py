"""Packs: rows of whole documents under a token budget, planned from lengths alone, and the tensors made of them."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import NamedTuple, Self

import numpy as np
import torch

from mmpt.data.shards.tokens import TokenDocument, sequences
from mmpt.errors import DataError

IGNORED = -100
"""Target where nothing is predicted: the last token of each document."""
_PLACE_BITS = 40


class PackPlan(NamedTuple):
    """`packs`: positions (int64) into the planned lengths, one array for each pack. `dropped`: positions that fit in no pack."""

    packs: list[np.ndarray]
    dropped: np.ndarray


def plan_packs(
    lengths: np.ndarray, budget: int, window: int = 1024, images: np.ndarray | None = None, max_images: int | None = None
) -> PackPlan:
    """Pack documents of `lengths` [documents] (tokens) into packs of at most `budget` tokens, whole documents only.

    With `max_images`, a pack holds at most so many pictures too; `images` [documents] says how many each document has.
    The next `window` documents in order are in view. A pack takes them in order until one does not fit, then is topped up
    with the longest in view that fits, again and again. So packs keep the given order but for the top-ups, the oldest
    document in view always goes next, and no pack reaches further ahead than the window. Once all that is left is in view, it
    is shared out evenly to as few packs as will do, the largest first to the emptiest: a nearly empty last pack would give one
    rank fewer tokens than the others. Every document lies in exactly one pack, or is dropped: those over a budget on their
    own, and those without a token. O(documents · log window), with pictures O(documents · window) at worst.
    """
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 or more")
    lengths = np.asarray(lengths, dtype=np.int64)
    fits = (lengths <= budget) & (lengths > 0)
    if max_images is not None:
        fits &= np.asarray(images) <= max_images
    queue = np.flatnonzero(fits)
    sizes = lengths[queue].tolist()
    counts = np.asarray(images)[queue].tolist() if max_images is not None else None
    # The documents in view, sorted by length, of equal lengths the earliest last: one integer each, quick to compare.
    last_place = (1 << _PLACE_BITS) - 1
    keys = [(size << _PLACE_BITS) | (last_place - place) for place, size in enumerate(sizes)]
    view: list[int] = []
    taken = bytearray(len(sizes))
    packs, head, seen = [], 0, 0
    while head < len(sizes):
        while seen < len(sizes) and len(view) < window:
            insort(view, keys[seen])
            seen += 1
        if seen == len(sizes):  # all that is left is in view: no more packs one by one, which would leave a nearly empty last one
            places = [last_place - (key & last_place) for key in reversed(view)]
            packs += [queue[pack] for pack in _share_out(places, sizes, budget, counts, max_images)]
            break
        pack, space, room = [], budget, max_images
        while True:
            while head < len(sizes) and taken[head]:
                head += 1
            while seen < len(sizes) and len(view) < window:
                insort(view, keys[seen])
                seen += 1
            if head == len(sizes):
                break
            if sizes[head] <= space and (counts is None or counts[head] <= room):
                at, place = bisect_left(view, keys[head]), head  # in order, as long as that fits
            else:
                # The longest that fits: the last key whose length is at most `space`, whatever its place.
                at = bisect_right(view, ((space + 1) << _PLACE_BITS) - 1) - 1
                if counts is not None:  # lengths are sorted, numbers of pictures are not: look on among the shorter ones
                    while at >= 0 and counts[last_place - (view[at] & last_place)] > room:
                        at -= 1
                if at < 0:
                    break
                place = last_place - (view[at] & last_place)
            del view[at]
            taken[place] = 1
            pack.append(place)
            space -= sizes[place]
            if counts is not None:
                room -= counts[place]
        packs.append(queue[pack])
    return PackPlan(packs, np.flatnonzero(~fits))


def _share_out(
    places: list[int], sizes: list[int], budget: int, counts: list[int] | None, max_images: int | None
) -> list[list[int]]:
    """Packs of `places` (longest first) by the rule of Graham (1969): each to the emptiest pack that has room for it."""
    number = max(1, -(-sum(sizes[place] for place in places) // budget))  # no fewer could hold all tokens
    while True:  # one more pack each time that something had no room
        packs: list[list[int]] = [[] for _ in range(number)]
        emptiest = [(0, 0, pack) for pack in range(number)]  # (tokens, pictures, pack), a heap
        for place in places:
            aside = []
            while emptiest:
                tokens, pictures, pack = heappop(emptiest)
                more = counts[place] if counts is not None else 0
                if tokens + sizes[place] > budget:
                    emptiest = []  # no fuller one has room either
                elif max_images is not None and pictures + more > max_images:
                    aside.append((tokens, pictures, pack))
                else:
                    packs[pack].append(place)
                    aside.append((tokens + sizes[place], pictures + more, pack))
                    break
            else:  # no pack had room
                break
            for entry in aside:
                heappush(emptiest, entry)
        else:
            return sorted(sorted(pack) for pack in packs if pack)
        number += 1


class Pairs(NamedTuple):
    """Of the prompts in a pack with a preferred and a rejected answer: `chosen` and `rejected` int64 [n], the places at which
    their tokens are predicted, pair by pair; `chosen_lengths`, `rejected_lengths` int64 [pairs], how many of them are of each."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor


class Rated(NamedTuple):
    """Of the answers in a pack that have an advantage: `places` int64 [n], at which their tokens are predicted, answer by answer;
    `lengths` int64 [answers], how many are of each, and `advantages` float32 [answers]; and those of the places where the
    advantage is above 0 (`more`) and below (`less`)."""

    places: torch.Tensor
    lengths: torch.Tensor
    advantages: torch.Tensor
    more: torch.Tensor
    less: torch.Tensor


class Features(NamedTuple):
    """What the media of one kind in a pack bring: `places` int64 [slots], positions in the row, in order; `inputs` [views, …] for
    the encoder of that kind; and how many of the slots are for each view."""

    places: torch.Tensor
    inputs: torch.Tensor
    slots: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Features":
        """The same with its tensors on `device`."""
        return Features(self.places.to(device, non_blocking=True), self.inputs.to(device, non_blocking=True), self.slots)


class FeatureParts:
    """The features of a row of tokens, medium by medium."""

    def __init__(self) -> None:
        self._places: dict[str, list[torch.Tensor]] = {}
        self._inputs: dict[str, list[torch.Tensor]] = {}
        self._slots: dict[str, list[int]] = {}

    def add(self, kind: str, places: np.ndarray, inputs: torch.Tensor, shares: Sequence[int] = ()) -> None:
        """A medium with its slots at `places`. `shares`: how many are for each of its views `inputs` [views, …]; none: alike."""
        self._places.setdefault(kind, []).append(torch.from_numpy(places))
        self._inputs.setdefault(kind, []).append(inputs)
        self._slots.setdefault(kind, []).extend(shares or [len(places) // len(inputs)] * len(inputs))

    def joined(self) -> dict[str, Features]:
        """Of each kind that is there."""
        return {
            kind: Features(torch.cat(places), torch.cat(self._inputs[kind]), tuple(self._slots[kind]))
            for kind, places in self._places.items()
        }


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """One row of whole documents, T tokens.

    input_ids int64 [1, T]; targets int64 [1, T]: the next token of the same document, `IGNORED` at its last token;
    weights float32 [1, T]: loss weight of predicting targets[t], 0 where it is ignored; position_ids int64 [1, T], from 0 in
    each document; cu_seqlens int32 [documents + 1]: document d is the tokens cu_seqlens[d] … cu_seqlens[d + 1];
    document_ids: one id for each document. supervised int64 [n]: the tokens whose prediction has a weight above 0, once they are
    known. marks: positions int64 [n] that an objective has found beforehand, by its name. features: of the kinds of media
    ("image", "speech") that are there. pairs: where some documents are two sequences, of which the second, rejected one is a
    document of its own here, of weight 0 in `weights`. rated: where some have an advantage.
    """

    input_ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    document_ids: tuple[str, ...]
    features: dict[str, Features] = field(default_factory=dict)
    supervised: torch.Tensor | None = None
    marks: dict[str, torch.Tensor] = field(default_factory=dict)
    pairs: Pairs | None = None
    rated: Rated | None = None

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its rows on `device`; `cu_seqlens` stay where they are, since the host alone reads them."""
        rows = ("input_ids", "targets", "weights", "position_ids")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in rows}
        features = {kind: parts.to(device) for kind, parts in self.features.items()}
        supervised = None if self.supervised is None else self.supervised.to(device, non_blocking=True)
        marks = {name: places.to(device, non_blocking=True) for name, places in self.marks.items()}
        pairs = self.pairs and Pairs(*(part.to(device, non_blocking=True) for part in self.pairs))
        rated = self.rated and Rated(*(part.to(device, non_blocking=True) for part in self.rated))
        return replace(self, **moved, features=features, supervised=supervised, marks=marks, pairs=pairs, rated=rated)


def pack(documents: list[TokenDocument], inputs: list[list[torch.Tensor]] | None = None) -> PackedBatch:
    """The tensors of one pack, on the CPU. `inputs`: for each document, what the encoder takes of each of its media, view by view
    [views, …]; without
    them, the slots stay empty. Raises `DataError` where there is no document or one has no token."""
    if any(document.rejected for document in documents):
        return _pack_of_pairs(documents, inputs)
    lengths = np.array([len(document.ids) for document in documents], dtype=np.int64)
    if not len(lengths) or not lengths.all():
        raise DataError("a pack needs at least one document, and each at least one token")
    edges = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([document.ids for document in documents]).astype(np.int64)
    own = np.ones(len(ids), dtype=np.float32)
    for document, start, end in zip(documents, edges[:-1], edges[1:], strict=True):
        if document.weights is not None:
            own[start:end] = document.weights
    # Token t predicts token t + 1 of its own document. Rolled, the last token of each would predict the first of the next one:
    # that is ignored, so nothing is learned across documents.
    targets, weights = np.roll(ids, -1), np.roll(own, -1)
    targets[edges[1:] - 1] = IGNORED
    weights[edges[1:] - 1] = 0.0
    positions = np.arange(len(ids)) - np.repeat(edges[:-1], lengths)
    return PackedBatch(
        input_ids=torch.from_numpy(ids[None]),
        targets=torch.from_numpy(targets[None]),
        weights=torch.from_numpy(weights[None]),
        position_ids=torch.from_numpy(positions[None]),
        cu_seqlens=torch.from_numpy(edges.astype(np.int32)),
        document_ids=tuple(document.id for document in documents),
        features=_features(documents, edges, inputs) if inputs is not None else {},
        rated=_rated(documents, edges, weights),
    )


def _rated(documents: list[TokenDocument], edges: np.ndarray, weights: np.ndarray) -> Rated | None:
    found = [
        (one.advantage, start + np.flatnonzero(weights[start:end] > 0))
        for one, start, end in zip(documents, edges[:-1], edges[1:], strict=True)
        if one.advantage is not None
    ]
    if not found:
        return None
    advantages, places = np.array([advantage for advantage, _ in found], np.float32), [own for _, own in found]
    lengths, all_places = np.array([len(own) for own in places]), np.concatenate(places)
    signs = np.repeat(np.sign(advantages), lengths)
    arrays = (all_places, lengths, advantages, all_places[signs > 0], all_places[signs < 0])
    return Rated(*map(torch.from_numpy, arrays))


def _pack_of_pairs(documents: list[TokenDocument], inputs: list[list[torch.Tensor]] | None) -> PackedBatch:
    sides = [sequences(document) for document in documents]
    if inputs is not None:
        media = iter([one for given in inputs for one in given])
        inputs = [[next(media) for _ in one.media] for parts in sides for one in parts]
    batch = pack([one for parts in sides for one in parts], inputs)
    seconds = np.cumsum([len(parts) for parts in sides])[[len(parts) == 2 for parts in sides]] - 1
    weights, edges, found = batch.weights.clone(), batch.cu_seqlens.tolist(), []
    for shift in (-1, 0):
        spans = [np.arange(edges[second + shift], edges[second + shift + 1]) for second in seconds]
        places = [span[batch.weights[0, span].numpy() > 0] for span in spans]
        found.append((torch.from_numpy(np.concatenate(places)), torch.tensor([len(one) for one in places])))
    for second in seconds:
        weights[0, edges[second] : edges[second + 1]] = 0.0
    (chosen, chosen_lengths), (rejected, rejected_lengths) = found
    return replace(batch, weights=weights, pairs=Pairs(chosen, rejected, chosen_lengths, rejected_lengths))


def _features(documents: list[TokenDocument], edges: np.ndarray, inputs: list[list[torch.Tensor]]) -> dict[str, Features]:
    parts = FeatureParts()
    for document, edge, own in zip(documents, edges[:-1].tolist(), inputs, strict=True):
        for medium, value in zip(document.media, own, strict=True):
            parts.add(medium.kind, medium.places() + edge, value, [slots for _, slots in medium.runs])
    return parts.joined()
