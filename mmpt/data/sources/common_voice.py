"""Speech of Common Voice: a table such as validated.tsv beside clips/.

sources: [{kind: common_voice, folder: cv-corpus/en, table: validated.tsv}]
"""

import codecs
import hashlib

from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, read_rows, row_units
from mmpt.data.formats.utterances import utterance
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.errors import ConfigError

_FIRST_LINE = 1 << 16
COLUMNS = ("path", "sentence")


class CommonVoice(NamedSource):
    """A table of Common Voice beside its clips: Ardila et al. 2020, "Common Voice" (arXiv:1912.06670)."""

    folder: str
    """Folder with the table and clips/."""
    table: str = "validated.tsv"
    """Name of the table in the folder."""
    max_down_votes: int | None = None
    """Rows with more votes against them are dropped, each listed; None: votes are not looked at."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta; empty: what the table says in `locale`."""
    license: str = "CC0-1.0"
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """The table. Raises `ConfigError` where there is none, or it lacks a column."""
        found = row_units(f"{self.folder.rstrip('/')}/{self.table}", MEDIA_BYTES)
        store = Store(self.folder)
        first = store.read_range(self.table, 0, _FIRST_LINE).removeprefix(codecs.BOM_UTF8).split(b"\n")[0]
        present = first.decode("utf-8", errors="replace").rstrip("\r").split("\t")
        missing = [column for column in COLUMNS if column not in present]
        if missing:
            raise ConfigError(f"{store.path(self.table)}: no column {', '.join(missing)} (there is {', '.join(present)})")
        return found

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row; the speaker's name is a short hash of the table's."""
        store, source = Store(self.folder), self.source_name(self.folder)
        for one in read_rows(f"{self.folder.rstrip('/')}/{self.table}", unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            missing = [column for column in COLUMNS if not row.get(column)]
            if missing:
                yield Lost(where, f"no {', '.join(missing)}")
                continue
            document_id = f"{source}/{row['path']}"
            votes = row.get("down_votes", "0")
            if self.max_down_votes is not None and votes.isdigit() and int(votes) > self.max_down_votes:
                yield Lost(where, f"{votes} votes against it", document_id, rule="down_votes")
                continue
            meta = {"language": self.language or row.get("locale", ""), "license": self.license}
            if speaker := row.get("client_id"):  # the first Common Voice names no speakers
                meta["voice"] = hashlib.sha256(speaker.encode()).hexdigest()[:12]
            yield utterance(
                store,
                f"clips/{row['path']}",
                row["sentence"],
                document_id=document_id,
                source=source,
                meta=meta,
                sample_rate=self.sample_rate,
            )
