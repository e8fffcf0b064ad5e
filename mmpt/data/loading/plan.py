"""The plan of one block: its documents in order, cut into pieces that fit, and the packs made of the pieces."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmpt.data.loading.config import LongDocuments
from mmpt.data.loading.packing import plan_packs
from mmpt.data.shards.index import Index
from mmpt.data.shards.read import TokenShards
from mmpt.vocabulary import MODALITIES

_IMAGE, _TEXT = MODALITIES.index("image"), MODALITIES.index("text")


@dataclass(frozen=True)
class BlockPlan:
    """`rows` int64 [documents, 3] (source, shard, number); `pieces` int64 [pieces, 3] (row, first token, one past the last);
    `packs`: the pieces of each; `tokens` in all packs; `there`: tokens of all documents; `left_out`: those of them that are in no
    pack; `dropped` pieces, documents and parts that fit in none."""

    rows: np.ndarray
    pieces: np.ndarray
    packs: list[np.ndarray]
    tokens: int
    there: int
    left_out: int
    dropped: int


class _Lengths(NamedTuple):
    """Of a block's documents: `tokens` and `images`, as codes or as features, int64 [documents]; `indices` of their shards."""

    tokens: np.ndarray
    images: np.ndarray
    indices: dict[tuple[int, int], Index]


def plan_block(
    sources: list[TokenShards], rows: np.ndarray, pack_tokens: int, window: int, max_images: int | None, long: LongDocuments
) -> BlockPlan:
    """Plan the documents `rows` of a block from the indices of their shards; nothing else is read."""
    lengths = _lengths(sources, rows)
    pieces, images, dropped = _pieces(rows, lengths, pack_tokens, long)
    sizes = pieces[:, 2] - pieces[:, 1]
    packs, unfit = plan_packs(sizes, pack_tokens, window, images, max_images)
    kept = np.ones(len(pieces), bool)
    kept[unfit] = False
    # The token that a piece shares with the one before it is there once, and read twice.
    goes_on = (pieces[1:, 0] == pieces[:-1, 0]) & (pieces[1:, 1] < pieces[:-1, 2])
    tokens, there = int(sizes[kept].sum()), int(lengths.tokens.sum())
    entering = tokens - int((goes_on & kept[1:] & kept[:-1]).sum())
    return BlockPlan(rows, pieces, packs, tokens, there, there - entering, dropped + len(unfit))


def _lengths(sources: list[TokenShards], rows: np.ndarray) -> _Lengths:
    tokens, images, indices = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), {}
    if len(rows):
        # Row by row in the order of (source, shard), so that each index is opened once, however the rows are shuffled.
        pairs, inverse = np.unique(rows[:, :2], axis=0, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        edges = np.searchsorted(inverse.ravel()[order], np.arange(len(pairs) + 1))
        for (source, shard), start, end in zip(pairs.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            index = indices[source, shard] = sources[source].index(shard)
            numbers = rows[order[start:end], 2]
            tokens[order[start:end]] = index.counts[numbers].sum(axis=1, dtype=np.int64)
            before = np.concatenate([[0], np.cumsum(index.part_kinds == _IMAGE)])  # pictures before each part of the shard
            images[order[start:end]] = before[index.part_starts[numbers + 1]] - before[index.part_starts[numbers]]
    return _Lengths(tokens, images, indices)


def _pieces(rows: np.ndarray, lengths: _Lengths, budget: int, long: LongDocuments) -> tuple[np.ndarray, np.ndarray, int]:
    """(pieces, pictures in each, parts dropped since no pack holds them). A piece is a whole document, or a stretch of one."""
    pieces = np.stack([np.arange(len(rows)), np.zeros(len(rows), np.int64), lengths.tokens], axis=1)
    too_long = np.flatnonzero(lengths.tokens > budget)
    if long == "drop" or not len(too_long):
        return pieces, lengths.images, 0
    found, images, at, dropped = [], [], 0, 0
    for row in too_long.tolist():
        source, shard, number = rows[row].tolist()
        index = lengths.indices[source, shard]
        parts = slice(index.part_starts[number], index.part_starts[number + 1])
        sizes, kinds = index.part_lengths[parts].astype(np.int64), index.part_kinds[parts]
        stretches = split_parts(sizes.tolist(), (kinds == _TEXT).tolist(), budget)
        dropped += int(((kinds != _TEXT) & (sizes > budget)).sum())  # whole by nature, and no pack is large enough
        starts = np.cumsum(sizes) - sizes
        # A picture lies in one stretch whole, so it is counted where it begins.
        pictures = starts[kinds == _IMAGE]
        # What lies before the long document stays as it is; its own piece is replaced by its stretches.
        found += [pieces[at:row], np.array([(row, start, end) for start, end in stretches], np.int64).reshape(-1, 3)]
        inside = [int(((pictures >= start) & (pictures < end)).sum()) for start, end in stretches]
        images += [lengths.images[at:row], np.array(inside, np.int64)]
        at = row + 1
    return np.concatenate([*found, pieces[at:]]), np.concatenate([*images, lengths.images[at:]]), dropped


def split_parts(parts: list[int], cuttable: list[bool], budget: int) -> list[tuple[int, int]]:
    """Token spans of at most `budget` tokens, as long as can be, over a document of `parts` tokens each.

    Text (`cuttable`) is cut at any token, pictures and utterances stay whole, and one over the budget is in no span. Where a span
    goes on from the one before it, it begins with that one's last token, so that each token is predicted once.
    """
    spans, covered, start, end = [], 0, 0, 0  # covered: up to where tokens are in a span, or in none for good
    for size, text in zip(parts, cuttable, strict=True):
        if not text and size > budget:  # in no span: what came before it ends here, and what follows begins anew
            if end > covered:
                spans.append((start, end))
            covered = start = end = end + size
            continue
        if not text and end - start + size > budget:  # it does not fit behind what is there, so the span ends before it
            if end > covered:
                spans.append((start, end))
            # The next span reads the last token again, so that its own first token is predicted; where the medium alone fills
            # the budget, there is no room for that.
            covered, start = end, end - 1 if size < budget else end
        end += size
        while end - start > budget:  # only text can have made it so long
            spans.append((start, start + budget))
            covered = start + budget
            start = covered - 1 if budget > 1 else covered
    return [*spans, (start, end)] if end > covered else spans
