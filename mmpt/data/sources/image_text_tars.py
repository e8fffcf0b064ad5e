"""Pictures with captions in WebDataset tars, as img2dataset writes them: KEY.jpg with KEY.txt or KEY.json.

sources: [{kind: image_text_tars, folder: laion/}]
"""

import math
from functools import partial

from mmpt.data.formats.pictures import SUFFIXES, caption
from mmpt.data.formats.row_parts import row_documents
from mmpt.data.formats.tars import Sample, named_samples, tar_units
from mmpt.data.lost import Documents
from mmpt.data.parts import image_part
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Text
from mmpt.errors import DataError


class ImageTextTars(NamedSource):
    """Pictures with captions in WebDataset tars, as img2dataset writes them (github.com/rom1504/img2dataset).

    The caption is KEY.txt, else the field `caption` of KEY.json, whose other fields go to the meta. Of a list of captions the
    first is the text, and all of them stay in the meta.
    """

    folder: str
    """Folder or URL of which every .tar is read."""
    caption: str = "caption"
    """Field of KEY.json with the caption."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[str]]:
        """One for each tar. Raises `ConfigError` where there is none."""
        return tar_units(self.folder)

    def read(self, unit: Unit[str]) -> Documents:
        """One document for each sample: (image, text). A sample is whole, or it is listed; nothing of another is put to it."""
        samples = named_samples(Store(self.folder), unit.what, self.source_name(self.folder))
        return row_documents(samples, partial(_document, self))


def _document(config: ImageTextTars, where: str, document_id: str, sample: Sample) -> Documents:
    group = sample.members
    if sample.problem:
        raise DataError(sample.problem)
    try:
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
    except UnicodeDecodeError as problem:
        raise DataError(str(problem)) from None
    # img2dataset writes NaN where a table had no number.
    meta = {key: value for key, value in meta.items() if not (isinstance(value, float) and not math.isfinite(value))}
    meta |= {key: value for key, value in (("language", config.language), ("license", config.license)) if value}
    yield Document(document_id, config.source_name(config.folder), (picture, Text(text)), meta)
