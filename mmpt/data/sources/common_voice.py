"""Speech of Common Voice: a table such as validated.tsv beside clips/.

sources: [{kind: common_voice, folder: cv-corpus/en, table: validated.tsv}]
"""

import codecs
import hashlib
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_units
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store
from mmpt.errors import ConfigError

_FIRST_LINE = 1 << 16
COLUMNS = ("path", "sentence", "client_id")


class CommonVoiceConfig(SourceSchema):
    """Rows with more than `max_down_votes` votes against them are dropped, each listed."""

    kind: Literal["common_voice"] = "common_voice"
    folder: str
    table: str = "validated.tsv"
    max_down_votes: int | None = None
    sample_rate: int | None = None
    language: str = ""
    license: str = "CC0-1.0"


def units(config: CommonVoiceConfig) -> list[Unit]:
    """The table. Raises `ConfigError` where there is none, or it lacks a column."""
    found = row_units(f"{config.folder.rstrip('/')}/{config.table}", MEDIA_BYTES)
    store = Store(config.folder)
    first = store.read_range(config.table, 0, _FIRST_LINE).removeprefix(codecs.BOM_UTF8).split(b"\n")[0]
    present = first.decode("utf-8", errors="replace").rstrip("\r").split("\t")
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise ConfigError(f"{store.path(config.table)}: no column {', '.join(missing)} (there is {', '.join(present)})")
    return found


def read(config: CommonVoiceConfig, unit: Unit) -> Documents:
    """One document for each row; the speaker's name is a short hash of the table's."""
    store, source = Store(config.folder), source_name(config, config.folder)
    for one in read_rows(f"{config.folder.rstrip('/')}/{config.table}", unit.what):
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
        if config.max_down_votes is not None and votes.isdigit() and int(votes) > config.max_down_votes:
            yield Lost(where, f"{votes} votes against it", document_id, rule="down_votes")
            continue
        voice = hashlib.sha256(row["client_id"].encode()).hexdigest()[:12]
        meta = {"language": config.language or row.get("locale", ""), "voice": voice, "license": config.license}
        yield utterance(
            store,
            f"clips/{row['path']}",
            row["sentence"],
            document_id=document_id,
            source=source,
            meta=meta,
            sample_rate=config.sample_rate,
        )
