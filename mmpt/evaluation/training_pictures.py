"""Pictures of document shards, evenly over all of them, one after the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmpt.data.shards.manifest import COLUMNS
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image
from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.tokenizers.image.augment_config import Aspect
from mmpt.tokenizers.image.pixels import picture_bytes

_IMAGES = COLUMNS["documents"].index("image")


def training_pictures(
    folders: Sequence[Path], most: int, side: int, aspect: Aspect, first: int | None = None
) -> Iterator[tuple[np.ndarray, str]]:
    """(uint8 [side, side, 3], alternative text) of `most` of the `first` pictures at most, every so many-th by the indices alone,
    so that of millions only these are read. What cannot be decoded is left out, as it is in training."""
    sets = [DocumentShards(folder) for folder in folders]
    total = sum(int(counts.sum()) for _, _, counts in _counts(sets))
    total = total if first is None else min(total, first)
    wanted = np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)
    before = 0
    for shards, shard, counts in _counts(sets):
        ends = np.cumsum(counts)
        inside = wanted[(wanted >= before) & (wanted < before + counts.sum())] - before
        documents = np.searchsorted(ends, inside, side="right")
        for document, place in zip(documents.tolist(), (inside - ends[documents] + counts[documents]).tolist(), strict=True):
            part = [part for part in shards.read(shard, document).parts if isinstance(part, Image)][place]
            try:
                yield picture_bytes(decode_image(part.data), side, aspect), part.alt
            except DataError:
                continue
        before += int(counts.sum())


def _counts(sets: Sequence[DocumentShards]) -> Iterator[tuple[DocumentShards, int, np.ndarray]]:
    """(Set, shard, pictures of each document)."""
    for one in sets:
        for shard in range(len(one.shard_documents)):
            yield one, shard, one.index(shard).counts[:, _IMAGES].astype(np.int64)
