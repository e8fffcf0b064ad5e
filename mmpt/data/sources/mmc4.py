"""Documents of Multimodal C4: lists of sentences with pictures placed by their similarity to them.

    sources: [{kind: mmc4, rows: mmc4/, images: pictures/, min_similarity: 0.24}]

Zhu et al. 2023, "Multimodal C4", section 3: each picture goes before the sentence that a linear assignment on the similarity
matrix gives it, at most one to a sentence.
"""

from typing import Literal

import numpy as np

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import find_picture
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError


class Mmc4Config(SourceSchema):
    """`rows`: JSON lines (also gzipped). `images`: the folder with each `image_name`.

    Pictures whose similarity to their sentence is below `min_similarity` are dropped, each listed (0.24 in OpenFlamingo).
    """

    kind: Literal["mmc4"] = "mmc4"
    rows: str
    images: str
    min_similarity: float = -1.0
    language: str = "en"
    license: str = ""


def units(config: Mmc4Config) -> list[Unit]:
    """Ranges of rows. Raises `ConfigError` where there are none."""
    return row_units(config.rows, MEDIA_BYTES)


def read(config: Mmc4Config, unit: Unit) -> Documents:
    """One document for each row: sentences in order, each picture before its own."""
    store, name = Store(config.images), source_name(config, config.rows)
    for one in read_rows(config.rows, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, row = one
        document_id = row_id(name, config.rows, where)
        try:
            sentences, names, similarity = _lists(row)
        except DataError as problem:
            yield Lost(where, str(problem), document_id)
            continue
        before, scores = {}, {}
        placed = assign(similarity)
        for number, reference in enumerate(names):
            item = f"{where}, image {number}: {reference}"
            if number not in placed:
                yield Lost(item, "no sentence left for it", document_id, False, "assignment")
            elif (score := float(similarity[number, placed[number]])) < config.min_similarity:
                yield Lost(item, f"similarity {score:.3f}, at least {config.min_similarity}", document_id, False, "similarity")
            else:
                try:
                    before[placed[number]] = find_picture(store, reference, "path", sentences[placed[number]])
                    scores.setdefault(reference, round(score, 4))  # a picture that comes twice: its first place's
                except DataError as problem:
                    yield Lost(item, str(problem), document_id, whole=False, part="image")
        parts = [
            part
            for number, text in enumerate(sentences)
            for part in ([before[number]] if number in before else []) + ([Text(text)] if text else [])
        ]
        if not parts:
            yield Lost(where, "nothing in it", document_id)
            continue
        meta = {"language": config.language, "license": config.license, "url": row.get("url"), "scores": {"similarity": scores}}
        yield Document(document_id, name, tuple(parts), {key: value for key, value in meta.items() if value})


def assign(similarity: np.ndarray) -> dict[int, int]:
    """Picture → sentence for which the sum of `similarity` [pictures, sentences] is largest, no sentence twice."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _lists(row: dict) -> tuple[list[str], list[str], np.ndarray]:
    sentences, infos = row.get("text_list"), row.get("image_info")
    if not isinstance(sentences, list) or not isinstance(infos, list) or not sentences:
        raise DataError("text_list and image_info must be lists, the first not empty")
    if not all(isinstance(text, str) for text in sentences) or not all(isinstance(info, dict) for info in infos):
        raise DataError("expected texts in text_list and objects in image_info")
    try:
        similarity = np.array(row.get("similarity_matrix") if infos else np.zeros((0, len(sentences))), dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("similarity_matrix is no matrix of numbers") from None
    if similarity.shape != (len(infos), len(sentences)) or not np.isfinite(similarity).all():
        raise DataError(f"similarity_matrix of {similarity.shape}, expected {(len(infos), len(sentences))} finite numbers")
    return sentences, [str(info.get("image_name", "")) for info in infos], similarity
