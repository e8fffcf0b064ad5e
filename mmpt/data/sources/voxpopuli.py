"""Speech of the European Parliament as VoxPopuli's own scripts lay it out: asr_train.tsv beside YEAR/ID.ogg.

sources: [{kind: voxpopuli, folder: voxpopuli/transcribed_data/en, table: asr_train.tsv}]
"""

import hashlib

from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, read_rows, row_units
from mmpt.data.formats.utterances import utterance
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit


class VoxPopuli(NamedSource):
    """The transcribed speech of VoxPopuli (Wang et al. 2021, arXiv:2101.00390), as facebookresearch/voxpopuli leaves it."""

    folder: str
    """Folder or URL of a language, with the table and a folder for each year."""
    table: str = "asr_train.tsv"
    """Name of the table in the folder."""
    normalized: bool = False
    """Whether the text is the normalized one, in small letters and without punctuation; else the raw one, and where there is none
    the normalized."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta; empty: the folder's name."""
    license: str = "CC0-1.0"
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of the table. Raises `ConfigError` where there is none."""
        return row_units(f"{self.folder.rstrip('/')}/{self.table}", MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row; the speaker's name is a short hash of the table's."""
        store, source = Store(self.folder), self.source_name(self.folder)
        language = self.language or self.folder.rstrip("/").rpartition("/")[2]
        for one in read_rows(f"{self.folder.rstrip('/')}/{self.table}", unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            name = row.get("id")
            if not name or not name[:4].isdigit():
                yield Lost(where, f"id is {name!r}, expected one that begins with a year")
                continue
            raw, normalized = row.get("raw_text"), row.get("normalized_text")
            speaker = row.get("speaker_id")
            voice = hashlib.sha256(speaker.encode()).hexdigest()[:12] if speaker and speaker != "None" else ""
            yield utterance(
                store,
                f"{name[:4]}/{name}.ogg",
                normalized if self.normalized else raw or normalized,
                document_id=f"{source}/{name}",
                source=source,
                meta={"language": language, "voice": voice, "license": self.license},
                sample_rate=self.sample_rate,
            )
