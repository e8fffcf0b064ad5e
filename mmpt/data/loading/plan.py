"""The plan of one block: its documents in order, cut into pieces that fit, and the packs made of the pieces."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmpt.data.loading.packing import plan_packs
from mmpt.data.shards.index import Index
from mmpt.data.shards.read import TokenShards
from mmpt.vocabulary import MODALITIES

LongDocuments = Literal["drop", "split"]
"""What becomes of a document over the budget of a pack: left out, or cut between its parts."""


@dataclass(frozen=True)
class BlockPlan:
    """`rows` int64 [documents, 3] (source, shard, number); `pieces` int64 [pieces, 3] (row, first token, one past the last);
    `packs`: the pieces of each; `tokens` in all packs; `dropped` pieces and documents that fit in none."""

    rows: np.ndarray
    pieces: np.ndarray
    packs: list[np.ndarray]
    tokens: int
    dropped: int


def plan_block(
    sources: list[TokenShards], rows: np.ndarray, pack_tokens: int, window: int, max_images: int | None, long: LongDocuments
) -> BlockPlan:
    """Plan the documents `rows` of a block from the indices of their shards; nothing else is read."""
    lengths, images, indices = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), {}
    if len(rows):
        pairs, inverse = np.unique(rows[:, :2], axis=0, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        edges = np.searchsorted(inverse.ravel()[order], np.arange(len(pairs) + 1))
        for (source, shard), start, end in zip(pairs.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            index = indices[source, shard] = sources[source].index(shard)
            counts = index.counts[rows[order[start:end], 2]].astype(np.int64)
            lengths[order[start:end]] = counts.sum(axis=1)
            in_pictures = counts[:, MODALITIES.index("image")]
            images[order[start:end]] = -(-in_pictures // max(1, sources[source].vocabulary.codes_per_image))
    pieces, piece_images, dropped = _pieces(rows, lengths, images, indices, pack_tokens, long)
    sizes = pieces[:, 2] - pieces[:, 1]
    packs, left_out = plan_packs(sizes, pack_tokens, window, piece_images, max_images)
    return BlockPlan(rows, pieces, packs, int(sizes.sum() - sizes[left_out].sum()), dropped + len(left_out))


def _pieces(
    rows: np.ndarray,
    lengths: np.ndarray,
    images: np.ndarray,
    indices: dict[tuple[int, int], Index],
    budget: int,
    long: LongDocuments,
) -> tuple[np.ndarray, np.ndarray, int]:
    """(pieces, pictures in each, parts dropped for their length). A piece is a whole document, or a run of its parts."""
    pieces = np.stack([np.arange(len(rows)), np.zeros(len(rows), np.int64), lengths], axis=1)
    too_long = np.flatnonzero(lengths > budget)
    if long == "drop" or not len(too_long):
        return pieces, images, 0
    found, counts, at, dropped = [], [], 0, 0
    for row in too_long.tolist():
        found.append(pieces[at:row])
        counts.append(images[at:row])
        source, shard, number = rows[row].tolist()
        index = indices[source, shard]
        parts = index.part_lengths[index.part_starts[number] : index.part_starts[number + 1]].tolist()
        runs, lost = split_parts(parts, budget)
        found.append(np.array([(row, start, end) for start, end in runs], dtype=np.int64).reshape(-1, 3))
        # Which part is a picture is not in the index: pictures are counted as if spread evenly over the document.
        counts.append(np.array([-(-int(images[row]) * (end - start) // int(lengths[row])) for start, end in runs], np.int64))
        dropped += lost
        at = row + 1
    return np.concatenate([*found, pieces[at:]]), np.concatenate([*counts, images[at:]]), dropped


def split_parts(parts: list[int], budget: int) -> tuple[list[tuple[int, int]], int]:
    """(token spans of runs of whole parts, each of at most `budget` tokens and as long as can be; parts over the budget).

    A part over the budget is in no run, and ends the one before it.
    """
    runs, start, position, dropped = [], 0, 0, 0
    for size in parts:
        if size > budget or position + size - start > budget:
            if position > start:
                runs.append((start, position))
            start = position
        if size > budget:
            dropped += 1
            start = position + size
        position += size
    return ([*runs, (start, position)] if position > start else runs), dropped
