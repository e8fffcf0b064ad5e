"""Pictures of a folder with their texts in a table: CSV, TSV, JSON lines or Parquet.

sources: [{kind: image_text_table, table: pairs.csv, images: pictures/, image: file, text: caption}]
"""

from mmpt.data.formats.pictures import Naming, caption, find_picture
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Text
from mmpt.errors import DataError


class ImageTextTable(NamedSource):
    """Pictures of a folder with their texts in a table, the form in which captions are published most; own."""

    table: str
    """CSV, TSV, JSON lines or Parquet, a file or a folder."""
    images: str
    """Folder of the pictures."""
    image: str = "image"
    """Column that names the picture."""
    text: str = "text"
    """Column of the text; of a list the first counts."""
    naming: Naming = "path"
    """How a reference names a file: as a path, by its last step, or by the SHA-256 of the reference."""
    meta: tuple[str, ...] = ()
    """Columns that go along as meta."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of rows. Raises `ConfigError` where there is no such table."""
        return row_units(self.table, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row: (image, text). A row without its text or its picture is listed, never half."""
        images, name = Store(self.images), self.source_name(self.table)
        for one in read_rows(self.table, unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            text = caption(row.get(self.text))
            if text is None:
                yield Lost(where, f"no text in {self.text!r}")
                continue
            try:
                picture = find_picture(images, row.get(self.image), self.naming, text)
            except DataError as problem:
                yield Lost(where, str(problem))
                continue
            meta = {"language": self.language, "license": self.license, **{key: row.get(key) for key in self.meta}}
            meta = {key: value for key, value in meta.items() if value not in (None, "")}
            document_id = row_id(name, self.table, where)
            yield Document(document_id, name, (picture, Text(text)), meta)
