"""WebDataset tars of any members: pictures, recordings, texts and JSON under one key.

sources: [{kind: hub_tars, folder: hf://datasets/OWNER/NAME, parts: [{image: jpg;png}, {text: json.caption}]}]
"""

import pydantic

from mmpt.config import Expression
from mmpt.data.formats.hub_files import HubFiles
from mmpt.data.formats.row_parts import RowPart, meta_of, row_document, row_documents, row_parts
from mmpt.data.formats.tars import Sample, named_samples, tar_units
from mmpt.data.lost import Documents, kept
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.errors import DataError

_TEXTS = ("txt", "text", "transcript", "cls", "caption")
"""Members that are text, as `webdataset` decodes them."""


class HubTars(HubFiles, NamedSource):
    """WebDataset repositories of the hub, as github.com/huggingface/datasets reads them: a sample is the members of one key, a
    column is what follows the key in a member's name."""

    folder: str
    """Folder or `hf://` address of which every .tar is read."""
    parts: tuple[RowPart, ...] = pydantic.Field(min_length=1)
    """What each document consists of, in order, the columns being suffixes: {image: jpg;png}, {audio: flac, transcript: txt},
    {text: json.caption}."""
    files: Expression = r".*\.tar"
    """Regular expression of the paths that are read."""
    meta: tuple[str, ...] = ()
    """Keys of the member `json` that go along as meta."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[str]]:
        """One for each tar. Raises `ConfigError` where there is none."""
        return tar_units(self.folder, self.wanted(self.folder))

    def read(self, unit: Unit[str]) -> Documents:
        """One document for each sample that is whole; any other is listed."""
        store, source = Store(self.folder), self.source_name(self.folder)

        def document(where: str, document_id: str, sample: Sample) -> Documents:
            row = _row(sample)
            parts = yield from kept(row_parts(row, self.parts, store, where, document_id))
            about = row.get("json")
            meta = meta_of(about if isinstance(about, dict) else {}, self.meta, language=self.language, license=self.license)
            yield row_document(document_id, source, parts, meta)

        return row_documents(named_samples(store, unit.what, source), document)


def _row(sample: Sample) -> dict:
    if sample.problem:
        raise DataError(sample.problem)
    row: dict = {}
    for name, data in sample.members.items():
        try:
            last = name.rpartition(".")[2]
            row[name] = decode_json(data) if last == "json" else data.decode("utf-8") if last in _TEXTS else data
        except UnicodeDecodeError as problem:
            raise DataError(f"member {name}: {problem}") from None
    return row
