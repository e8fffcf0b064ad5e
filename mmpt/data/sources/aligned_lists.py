"""Documents as two aligned lists of pictures and texts, one of them None at each place.

    sources: [{kind: aligned_lists, rows: obelics/, images: pictures/, naming: sha256}]
    sources: [{kind: aligned_lists, rows: obelics/, downloads: img2dataset/}]

OBELICS and SEED (`images`, `texts`, `metadata`), OmniCorpus (`general_metadata` beside them), InfiMM-WebMath (`image_list`,
`text_list`), the multimodal textbook (`text_ocr_list` beside them), and Energon's interleaved samples
(github.com/NVIDIA/Megatron-Energon) all have this form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from mmpt.data.formats.downloads import check_downloads, finder
from mmpt.data.formats.pictures import Naming
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, named_rows, row_units
from mmpt.data.formats.tars import Sample, named_samples, tar_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Image, Part, Text
from mmpt.errors import DataError

_META = ("metadata", "general_metadata", "url", "URL")
"""Fields of a row that go along: addresses, and what was measured of the document or of each picture."""


@dataclass(frozen=True)
class _Row:
    """Where a row lies, the id of its document, and `find`: from a reference to the picture, or `DataError`."""

    where: str
    document_id: str
    values: dict
    find: Callable[[str | dict], Image]


class _Place(NamedTuple):
    """What stands at one place of the lists: a picture, by reference or as it is, or a text; what was read from it."""

    image: str | dict | None
    text: str | None
    ocr: str | None


class AlignedLists(NamedSource):
    """Documents as two aligned lists of pictures and texts: Laurençon et al. 2023, "OBELICS" (arXiv:2306.16527).

    Without `images`, `rows` is a folder of tars as Energon has them (github.com/NVIDIA/Megatron-Energon): KEY.json with the
    lists, and its pictures beside it, "a.jpg" in the list being the member KEY.a.jpg.
    """

    carries: ClassVar[tuple[str, ...]] = (
        "OmniCorpus",
        "InfiMM-WebMath-40B",
    )

    rows: str
    """JSON lines, JSON or Parquet, a file or a folder; or a folder of tars."""
    images: str = ""
    """Folder of the pictures; empty: they are in the tars, or in `downloads`."""
    downloads: str = ""
    """Folder that img2dataset filled (tars, folders or Parquet, with its table of addresses): pictures are found by their URL."""
    naming: Naming = "path"
    """How a reference names a file: as a path, by its last step, or by the SHA-256 of the reference."""
    ocr: bool = False
    """Whether the text read from a picture (`text_ocr_list`) follows it, as text that is read but never learned."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]] | list[Unit[str]]:
        """Ranges of rows, or tars. Raises `ConfigError` where there are none, or no download."""
        check_downloads(self.downloads)
        return row_units(self.rows, MEDIA_BYTES) if self.images or self.downloads else tar_units(self.rows)

    def read(self, unit: Unit[RowRange] | Unit[str]) -> Documents:
        """One document for each row, in the order of the lists. A picture that cannot be had is listed, and the rest stays."""
        for one in _samples(self, unit.what) if isinstance(unit.what, str) else _rows(self, unit.what):
            if isinstance(one, Lost):
                yield one
            else:
                yield from _document(self, one)


def _rows(config: AlignedLists, what: RowRange) -> Iterator[_Row | Lost]:
    find = finder(config.images, config.naming, config.downloads)
    for one in named_rows(config.source_name(config.rows), config.rows, what):
        yield one if isinstance(one, Lost) else _Row(*one, find)


def _samples(config: AlignedLists, tar: str) -> Iterator[_Row | Lost]:
    for one in named_samples(Store(config.rows), tar, config.source_name(config.rows)):
        if isinstance(one, Lost):
            yield one
            continue
        where, document_id, sample = one
        try:
            if sample.problem or "json" not in sample.members:
                raise DataError(sample.problem or f"no member json (there is {', '.join(sample.members)})")
            yield _Row(where, document_id, decode_json(sample.members["json"]), partial(_member, sample))
        except DataError as problem:
            yield Lost(where, str(problem), document_id)


def _member(sample: Sample, reference: str | dict) -> Image:
    if not isinstance(reference, str) or reference.lower() not in sample.members:
        raise DataError("no such member")
    return image_part(sample.members[reference.lower()])


def _document(config: AlignedLists, row: _Row) -> Documents:
    where, document_id = row.where, row.document_id
    try:
        places = _places(row.values, config.ocr)
    except DataError as problem:
        yield Lost(where, str(problem), document_id)
        return
    parts: list[Part] = []
    for number, (image, text, ocr) in enumerate(places):
        if image is not None:
            try:
                parts.append(row.find(image))
            except DataError as problem:
                yield Lost(f"{where}, place {number}: {_told(image)}", str(problem), document_id, whole=False, part="image")
                continue
        if ocr:
            parts.append(Text(ocr, weight=0.0))
        if text:
            parts.append(Text(text))
    if not parts:
        yield Lost(where, "nothing in it", document_id)
        return
    meta = {"language": config.language, "license": config.license, **{key: row.values.get(key) for key in _META}}
    source = config.source_name(config.rows)
    yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _told(image: str | dict) -> str:
    return image if isinstance(image, str) else str(image.get("path") or "a picture in the row")


def _places(row: dict, with_ocr: bool) -> list[_Place]:
    images, texts = row.get("images", row.get("image_list")), row.get("texts", row.get("text_list"))
    ocr = row.get("text_ocr_list") if with_ocr else None
    if not (isinstance(images, list) and isinstance(texts, list) and (ocr is None or isinstance(ocr, list))):
        raise DataError("images, texts and text_ocr_list must be lists")
    ocr = [None] * len(images) if ocr is None else ocr
    if not len(images) == len(texts) == len(ocr):
        raise DataError(f"{len(images)} images, {len(texts)} texts and {len(ocr)} texts of pictures do not go together")
    places = [_Place(*place) for place in zip(images, texts, ocr, strict=True)]
    for number, place in enumerate(places):
        if not isinstance(place.image, dict) and any(value is not None and not isinstance(value, str) for value in place):
            raise DataError(f"place {number}: expected text or null")
        if place.image is not None and place.text is not None:
            raise DataError(f"place {number}: a picture and a text at once, so their order is unknown")
    return places
