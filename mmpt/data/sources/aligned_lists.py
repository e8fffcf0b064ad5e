"""Documents as two aligned lists of pictures and texts, one of them None at each place.

    sources: [{kind: aligned_lists, rows: obelics/, images: pictures/, naming: sha256}]

OBELICS and SEED (`images`, `texts`, `metadata`), OmniCorpus (`general_metadata` beside them), InfiMM-WebMath (`image_list`,
`text_list`), the multimodal textbook (`text_ocr_list` beside them), and Energon's interleaved samples
(github.com/NVIDIA/Megatron-Energon) all have this form.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import Naming, find_picture
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.sources.tars import Sample, read_samples, tar_units
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError

_META = ("metadata", "general_metadata", "url", "URL")
"""Fields of a row that go along: addresses, and what was measured of the document or of each picture."""
Find = Callable[[str], Image]
"""From a reference to the picture; raises `DataError`."""


class AlignedListsConfig(SourceSchema):
    """`rows`: JSON lines, JSON or Parquet, a file or a folder. `images`: the folder of the pictures.

    Without `images`, `rows` is a folder of tars as Energon has them: KEY.json with the lists, and its pictures beside it, "a.jpg"
    in the list being the member KEY.a.jpg.

    With `ocr`, the text read from a picture (`text_ocr_list`) follows it as text that is read but never learned.
    """

    kind: Literal["aligned_lists"] = "aligned_lists"
    rows: str
    images: str = ""
    naming: Naming = "path"
    ocr: bool = False
    language: str = ""
    license: str = ""


def units(config: AlignedListsConfig) -> list[Unit]:
    """Ranges of rows, or tars. Raises `ConfigError` where there are none."""
    return row_units(config.rows, MEDIA_BYTES) if config.images else tar_units(config.rows)


def read(config: AlignedListsConfig, unit: Unit) -> Documents:
    """One document for each row, in the order of the lists. A picture that cannot be had is listed, and the rest stays."""
    for one in _rows(config, unit) if config.images else _samples(config, unit):
        if isinstance(one, Lost):
            yield one
        else:
            yield from _document(config, *one)


def _rows(config: AlignedListsConfig, unit: Unit) -> Iterator[tuple[str, str, dict, Find] | Lost]:
    store, name = Store(config.images), source_name(config, config.rows)
    find = partial(find_picture, store, naming=config.naming)
    for one in read_rows(config.rows, unit.what):
        yield one if isinstance(one, Lost) else (one[0], row_id(name, config.rows, one[0]), one[1], find)


def _samples(config: AlignedListsConfig, unit: Unit) -> Iterator[tuple[str, str, dict, Find] | Lost]:
    store, name = Store(config.rows), source_name(config, config.rows)
    for one in read_samples(store, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, document_id = f"{store.path(unit.what)}: {one.key}", f"{name}/{unit.what.removesuffix('.tar')}/{one.key}"
        try:
            if one.problem or "json" not in one.members:
                raise DataError(one.problem or f"no member json (there is {', '.join(one.members)})")
            yield where, document_id, decode_json(one.members["json"]), partial(_member, one)
        except DataError as problem:
            yield Lost(where, str(problem), document_id)


def _member(sample: Sample, reference: str) -> Image:
    if reference.lower() not in sample.members:
        raise DataError("no such member")
    return image_part(sample.members[reference.lower()])


def _document(config: AlignedListsConfig, where: str, document_id: str, row: dict, find: Find) -> Documents:
    try:
        places = _places(row, config.ocr)
    except DataError as problem:
        yield Lost(where, str(problem), document_id)
        return
    parts = []
    for number, (image, text, ocr) in enumerate(places):
        if image is not None:
            try:
                parts.append(find(image))
            except DataError as problem:
                yield Lost(f"{where}, place {number}: {image}", str(problem), document_id, whole=False, part="image")
                continue
        if ocr:
            parts.append(Text(ocr, weight=0.0))
        if text:
            parts.append(Text(text))
    if not parts:
        yield Lost(where, "nothing in it", document_id)
        return
    meta = {"language": config.language, "license": config.license, **{key: row.get(key) for key in _META}}
    source = source_name(config, config.rows)
    yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _places(row: dict, with_ocr: bool) -> list[tuple[str | None, str | None, str | None]]:
    images, texts = row.get("images", row.get("image_list")), row.get("texts", row.get("text_list"))
    ocr = row.get("text_ocr_list") if with_ocr else None
    if not all(isinstance(values, list) for values in (images, texts, [] if ocr is None else ocr)):
        raise DataError("images, texts and text_ocr_list must be lists")
    ocr = [None] * len(images) if ocr is None else ocr
    if not len(images) == len(texts) == len(ocr):
        raise DataError(f"{len(images)} images, {len(texts)} texts and {len(ocr)} texts of pictures do not go together")
    for number, place in enumerate(zip(images, texts, ocr, strict=True)):
        if any(value is not None and not isinstance(value, str) for value in place):
            raise DataError(f"place {number}: expected text or null")
        if place[0] is not None and place[1] is not None:
            raise DataError(f"place {number}: a picture and a text at once, so their order is unknown")
    return list(zip(images, texts, ocr, strict=True))
