"""The embeddings of the pictures of a shard."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from mmpt.data.curate.copies.buckets import name_of
from mmpt.data.curate.copies.clusters import VECTORS
from mmpt.data.curate.steps.dedup_semantic_pictures import PictureEmbeddingSettings
from mmpt.data.store import Store
from mmpt.document import Document, Image
from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.tokenizers.image.pixels import picture_bytes, to_pixels
from mmpt.tokenizers.image.tower import FrozenTower

BATCH = 64


def sign(settings: PictureEmbeddingSettings, store: Store, shard: int, documents: Iterable[Document]) -> None:
    """Write float32 [pictures, width], of length 1, and of each [document's id, place]; one that cannot be decoded is left out.

    A picture whose bytes come again in the shard is looked at once.
    """
    tower = _tower(settings.model_dump_json())
    names: list[tuple[str, int]] = []
    kinds: list[int] = []
    known: dict[bytes, int] = {}
    vectors: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for document in documents:
        for place, part in enumerate(document.parts):
            if not isinstance(part, Image):
                continue
            digest = hashlib.sha256(part.data).digest()
            if digest not in known:
                try:
                    waiting.append(picture_bytes(decode_image(part.data), settings.side))
                except DataError:
                    continue
                known[digest] = len(known)
            names.append((document.id, place))
            kinds.append(known[digest])
            if len(waiting) == BATCH:
                vectors.append(embeddings(tower, waiting))
                waiting = []
    if waiting:
        vectors.append(embeddings(tower, waiting))
    rows = np.concatenate(vectors)[kinds].astype("<f4").tobytes() if vectors else b""
    store.write(name_of(shard, VECTORS, "ids"), json.dumps(names).encode())
    store.write(name_of(shard, VECTORS, "rows"), rows)


def embeddings(tower: FrozenTower, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [pictures, width], of length 1, of squares of pixels uint8 [side, side, 3]."""
    pixels = to_pixels(np.stack(pictures)).to(tower.mean.device)
    return F.normalize(tower.embed(pixels).float(), dim=1).cpu().numpy()


@lru_cache(maxsize=2)
def _tower(settings: str) -> FrozenTower:
    """Built once in each process. Raises `ConfigError` where it cannot be loaded."""
    given = PictureEmbeddingSettings.model_validate_json(settings)
    module = given.tower.build(given.side)
    assert isinstance(module, FrozenTower)  # as the settings were checked
    return module.to("cuda" if torch.cuda.is_available() else "cpu")
