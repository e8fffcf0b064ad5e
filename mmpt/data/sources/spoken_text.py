"""Rows of text, some of it read aloud by espeak-ng or Flite.

sources: [{kind: spoken_text, path: questions.jsonl, parts: [{speech: "{question}", weight: 0}, {text: "{answer}"}]}]
"""

import hashlib
import string
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.data.unit import Unit
from mmpt.document import Document, Part, Role, Text
from mmpt.errors import DataError


class SpokenPart(Schema):
    """A part of each document: `text` or `speech`, with `{column}` where what a row has in that column stands."""

    text: str | None = None
    """Text as it is."""
    speech: str | None = None
    """Text that is read aloud."""
    role: Role | None = None
    """Who says it, in a conversation; parts that follow each other with one role are one turn."""
    weight: float = pydantic.Field(default=1.0, ge=0)
    """Of the loss of the part; 0: read, never learned."""
    voices: tuple[str, ...] = pydantic.Field(default=("en-us",), min_length=1)
    """espeak-ng's names of the voices, or Flite's: flite:slt, flite:rms, flite:awb, flite:kal16. Each document gets one."""
    rate: tuple[int, int] = (160, 200)
    """Words a minute, at least and at most."""
    pitch: tuple[int, int] = (50, 50)
    """0 to 99, at least and at most, of espeak-ng's."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "SpokenPart":
        if (self.text is None) == (self.speech is None):
            raise ValueError("expected exactly one of text and speech")
        for name, (least, most) in (("rate", self.rate), ("pitch", self.pitch)):
            if least > most:
                raise ValueError(f"{name}: {least} is more than {most}")
        if self.rate[0] < 1:
            raise ValueError(f"rate: expected at least one word a minute, not {self.rate[0]}")
        try:
            list(string.Formatter().parse(self.form))
        except ValueError as problem:
            raise ValueError(f"{self.form!r}: {problem}") from None
        return self

    @property
    def form(self) -> str:
        return self.speech or self.text or ""


class SpokenText(NamedSource):
    """Rows of text of which some is read aloud: questions and answers of a text set become spoken ones, as
    InstructS2S-200K was made (LLaMA-Omni, Fang et al. 2024, arXiv:2409.06666)."""

    path: str
    """JSON lines, a JSON array, Parquet, CSV or TSV: a file or a folder."""
    parts: tuple[SpokenPart, ...] = pydantic.Field(min_length=1)
    """What each document consists of, in order; with roles for all of them it is a conversation."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""
    seed: int = 0
    """What voices and rates are drawn with."""

    @pydantic.model_validator(mode="after")
    def _all_or_none(self) -> "SpokenText":
        if len({part.role is None for part in self.parts}) > 1:
            raise ValueError("parts: expected a role for all of them, or for none")
        return self

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of rows. Raises `ConfigError` where there are none."""
        return row_units(self.path, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row. A row that lacks a column, or of which nothing is to be heard, is listed."""
        name = self.source_name(self.path)
        with Speaker() as speaker:
            for one in read_rows(self.path, unit.what):
                if isinstance(one, Lost):
                    yield one
                    continue
                where, row = one
                document_id = row_id(name, self.path, where)
                try:
                    yield _document(self, document_id, name, row, speaker)
                except DataError as problem:
                    yield Lost(where, str(problem), document_id)


def _document(config: SpokenText, document_id: str, name: str, row: dict, speaker: Speaker) -> Document:
    """The voices of a document follow from its id alone."""
    digest = hashlib.sha256(f"{config.seed} {document_id}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8]))
    parts: list[Part] = []
    voices: list[str] = []
    turn = 0
    for number, part in enumerate(config.parts):
        said = _filled(part.form, row)
        turn += number > 0 and part.role != config.parts[number - 1].role
        if part.speech is None:
            parts.append(Text(said, part.weight, part.role, turn))
            continue
        voice = part.voices[int(random.integers(len(part.voices)))]
        rate, pitch = (int(random.integers(least, most + 1)) for least, most in (part.rate, part.pitch))
        spoken = read_aloud(speaker, said, voice, rate, pitch)
        parts.append(replace(spoken, weight=part.weight, role=part.role, turn=turn))
        voices.append(voice)
    meta = {"language": config.language, "license": config.license, "voices": voices}
    return Document(document_id, name, tuple(parts), {key: value for key, value in meta.items() if value})


def _filled(form: str, row: dict) -> str:
    found: Sequence = [(before, column) for before, column, _, _ in string.Formatter().parse(form)]
    missing = [column for _, column in found if column is not None and not isinstance(row.get(column), str)]
    if missing:
        raise DataError(f"no text in {', '.join(map(repr, missing))} (there is {', '.join(map(str, row)) or 'nothing'})")
    return "".join(before + (row[column] if column is not None else "") for before, column in found)
