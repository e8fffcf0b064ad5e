"""Documents as two aligned lists of pictures and texts, one of them None at each place.

    sources: [{kind: aligned_lists, rows: obelics/, images: pictures/, naming: sha256}]

OBELICS and SEED (`images`, `texts`, `metadata`), the multimodal textbook (`text_ocr_list` beside them), and Energon's
interleaved samples unpacked to JSON all have this form.
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import Naming, find_picture
from mmpt.data.sources.rows import read_rows, row_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError


class AlignedListsConfig(SourceSchema):
    """`rows`: JSON lines, JSON or Parquet, a file or a folder. `images`: the folder of the pictures.

    With `ocr`, the text read from a picture (`text_ocr_list`) follows it as text that is read but never learned.
    """

    kind: Literal["aligned_lists"] = "aligned_lists"
    rows: str
    images: str
    naming: Naming = "path"
    ocr: bool = False
    language: str = ""
    license: str = ""


def units(config: AlignedListsConfig) -> list[Unit]:
    """Ranges of rows. Raises `ConfigError` where there are none."""
    return row_units(config.rows)


def read(config: AlignedListsConfig, unit: Unit) -> Documents:
    """One document for each row, in the order of the lists. A picture that cannot be had is listed, and the rest stays."""
    store, name = Store(config.images), source_name(config, config.rows)
    for one in read_rows(config.rows, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, row = one
        document_id = f"{name}/{where.rpartition('/')[2]}"
        try:
            places = _places(row, config.ocr)
        except DataError as problem:
            yield Lost(where, str(problem), document_id)
            continue
        parts = []
        for number, (image, text, ocr) in enumerate(places):
            if image is not None:
                try:
                    parts.append(find_picture(store, image, config.naming))
                except DataError as problem:
                    yield Lost(f"{where}, place {number}: {image}", str(problem), document_id, whole=False)
                    continue
            if ocr:
                parts.append(Text(ocr, weight=0.0))
            if text:
                parts.append(Text(text))
        if not parts:
            yield Lost(where, "nothing in it", document_id)
            continue
        meta = {"language": config.language, "license": config.license, "metadata": row.get("metadata")}
        yield Document(document_id, name, tuple(parts), {key: value for key, value in meta.items() if value})


def _places(row: dict, with_ocr: bool) -> list[tuple[str | None, str | None, str | None]]:
    images, texts, ocr = row.get("images"), row.get("texts"), row.get("text_ocr_list") if with_ocr else None
    if not isinstance(images, list) or not isinstance(texts, list):
        raise DataError("images and texts must be lists")
    ocr = ocr or [None] * len(images)
    if not len(images) == len(texts) == len(ocr):
        raise DataError(f"{len(images)} images, {len(texts)} texts and {len(ocr)} texts of pictures do not go together")
    for number, place in enumerate(zip(images, texts, ocr, strict=True)):
        if any(value is not None and not isinstance(value, str) for value in place):
            raise DataError(f"place {number}: expected text or null")
        if place[0] is not None and place[1] is not None:
            raise DataError(f"place {number}: a picture and a text at once, so their order is unknown")
    return list(zip(images, texts, ocr, strict=True))
