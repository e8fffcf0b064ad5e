"""Rows of Parquet with their pictures and recordings inside: the form in which the Hugging Face hub shows and converts data sets.

sources: [{kind: hub_rows, rows: hf://datasets/OWNER/NAME, files: "data/train-.*", parts: [{image: image}, {text: caption}]}]
"""

import pydantic

from mmpt.config import Expression
from mmpt.data.formats.hub_files import HubFiles
from mmpt.data.formats.row_parts import RowPart, meta_of, row_document, row_documents, row_parts
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import SUFFIXES, folder_of, named_rows, row_units
from mmpt.data.lost import Documents, kept
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit


class HubRows(HubFiles, NamedSource):
    """Rows with their media inside, {bytes, path}, one or lists of them, as huggingface/datasets writes Image and Audio columns.

    `rows` may be the folder that `huggingface_hub.snapshot_download` leaves, links and all, or `hf://datasets/OWNER/NAME`, which
    reads of each file the row groups that are asked for.
    """

    rows: str
    """Parquet, JSON lines or CSV: a file, a folder, or an `hf://` address."""
    parts: tuple[RowPart, ...] = pydantic.Field(min_length=1)
    """What each document consists of, in order: {image: image}, {audio: audio, transcript: text}, or {image: images, text: texts}
    for lists that go side by side."""
    files: Expression = r".*\.parquet"
    """Regular expression of the paths in a folder that are read; with `config` or `split` all forms of rows are."""
    media: str = ""
    """Folder that names of files in the rows are relative to; empty: that of the rows."""
    meta: tuple[str, ...] = ()
    """Columns that go along as meta."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.model_validator(mode="after")
    def _a_folder(self) -> "HubRows":
        if (self.config or self.split) and self.rows.endswith(SUFFIXES):
            raise ValueError("rows: expected a folder, of which config and split choose files")
        return self

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of rows. Raises `ConfigError` where there are none."""
        return row_units(self.rows, wanted=None if self.rows.endswith(SUFFIXES) else self.wanted(self.rows))

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row. One that lacks a column or its medium is listed; of a list what cannot be read, and the rest
        stays in order."""
        name, store = self.source_name(self.rows), Store(self.media or folder_of(self.rows))

        def document(where: str, document_id: str, row: dict) -> Documents:
            parts = yield from kept(row_parts(row, self.parts, store, where, document_id))
            meta = meta_of(row, self.meta, language=self.language, license=self.license)
            yield row_document(document_id, name, parts, meta)

        return row_documents(named_rows(name, self.rows, unit.what), document)
