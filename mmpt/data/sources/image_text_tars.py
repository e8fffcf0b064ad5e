"""Pictures with captions in WebDataset tars, as img2dataset writes them: KEY.jpg with KEY.txt or KEY.json.

sources: [{kind: image_text_tars, folder: laion/}]
"""

import math
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import SUFFIXES, caption
from mmpt.data.sources.tars import Sample, read_samples, tar_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError


class ImageTextTarsConfig(SourceSchema):
    """Every .tar in `folder`. The caption is KEY.txt, else the field `caption` of KEY.json, whose other fields go to the meta.

    Of a list of captions the first is the text, and all of them stay in the meta.
    """

    kind: Literal["image_text_tars"] = "image_text_tars"
    folder: str
    caption: str = "caption"
    language: str = ""
    license: str = ""


def units(config: ImageTextTarsConfig) -> list[Unit]:
    """One for each tar. Raises `ConfigError` where there is none."""
    return tar_units(config.folder)


def read(config: ImageTextTarsConfig, unit: Unit) -> Documents:
    """One document for each sample: (image, text). A sample is whole, or it is listed; nothing of another is put to it."""
    store, stem = Store(config.folder), unit.what.removesuffix(".tar")
    source = source_name(config, config.folder)
    for one in read_samples(store, unit.what):
        if isinstance(one, Lost):
            yield one
        else:
            yield from _document(config, f"{store.path(unit.what)}: {one.key}", f"{source}/{stem}/{one.key}", one)


def _document(config: ImageTextTarsConfig, where: str, document_id: str, sample: Sample) -> Documents:
    try:
        group = sample.members
        if sample.problem:
            raise DataError(sample.problem)
        images = [name for name in group if name in SUFFIXES]
        if len(images) != 1:
            raise DataError(f"{len(images)} pictures, expected one (members: {', '.join(group)})")
        meta = decode_json(group["json"]) if "json" in group else {}
        text = caption(group["txt"].decode("utf-8") if "txt" in group else meta.get(config.caption))
        if "txt" not in group and isinstance(meta.get(config.caption), str):
            del meta[config.caption]
        if text is None:
            raise DataError(f"no caption (members: {', '.join(group)})")
        picture = image_part(group[images[0]], text)
    except (DataError, UnicodeDecodeError) as problem:
        yield Lost(where, str(problem), document_id)
        return
    # img2dataset writes NaN where a table had no number.
    meta = {key: value for key, value in meta.items() if not (isinstance(value, float) and not math.isfinite(value))}
    meta |= {key: value for key, value in (("language", config.language), ("license", config.license)) if value}
    yield Document(document_id, source_name(config, config.folder), (picture, Text(text)), meta)
