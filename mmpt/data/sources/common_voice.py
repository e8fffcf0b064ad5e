"""Speech of Common Voice: a table such as validated.tsv beside clips/.

sources: [{kind: common_voice, folder: cv-corpus/en, table: validated.tsv}]
"""

import hashlib
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.rows import read_rows, row_units
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store

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
    """The table. Raises `ConfigError` where there is none."""
    return row_units(f"{config.folder.rstrip('/')}/{config.table}")


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
            yield Lost(where, f"no {', '.join(missing)} (there is {', '.join(row)})")
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
