"""Texts read aloud."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

import pydantic

from mmpt.data.curate.compositions import Composition
from mmpt.data.lost import Documents, Lost
from mmpt.data.passages import passages
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.document import Document, Part, Role, Text, in_place_of
from mmpt.errors import DataError


class ReadAloud(Composition):
    """Whole texts spoken by espeak-ng or Flite, each document in one voice (synthetic speech of text corpora, Zeng et al. 2024,
    arXiv:2411.17607).

    Utterances are of whole sentences where they can be; their transcripts, one behind the other, are the text. What nothing is to
    be heard of stays text; what a voice fails on, too, and is listed.
    """

    voices: tuple[str, ...] = pydantic.Field(default=("en-us", "en-us+f3", "en-us+m3", "flite:slt", "flite:rms"), min_length=1)
    """espeak-ng's names of the voices, or Flite's: flite:slt, flite:rms, flite:awb, flite:kal16. Each document gets one."""
    rate: tuple[int, int] = (150, 200)
    """Words a minute, at least and at most."""
    max_words: int = pydantic.Field(default=50, ge=1)
    """Words of an utterance at most."""
    roles: tuple[Role, ...] | None = None
    """Whose texts are spoken in conversations; null: everybody's."""
    text: Literal["transcript", "behind"] = "transcript"
    """Whether the text is in the document only as the transcript of its speech, or stands behind it, too."""
    seed: int = 0
    """What voices and rates are drawn with."""

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "ReadAloud":
        if not 1 <= self.rate[0] <= self.rate[1]:
            raise ValueError(f"rate: expected at least 1, and no more than at most, not {self.rate}")
        return self

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        for one in documents:
            if isinstance(one, Lost):
                yield one
                continue
            unspoken: list[Lost] = []
            draw = random.Random(f"{self.seed} {one.id}")
            voice, rate = draw.choice(self.voices), draw.randint(*self.rate)
            with Speaker() as speaker:
                parts = tuple(self._parts(one, speaker, voice, rate, unspoken))
            yield from unspoken
            yield replace(one, parts=parts, meta={**one.meta, "voice": voice}) if parts != one.parts else one

    def _parts(self, document: Document, speaker: Speaker, voice: str, rate: int, unspoken: list[Lost]) -> Iterator[Part]:
        for place, part in enumerate(document.parts):
            if not isinstance(part, Text) or (part.role and self.roles is not None and part.role not in self.roles):
                yield part
                continue
            for passage in passages(part.text, self.max_words):
                if not any(character.isalnum() for character in passage):
                    yield from [in_place_of(Text(passage), part)] if self.text == "transcript" else []
                    continue
                try:
                    yield in_place_of(read_aloud(speaker, passage, voice, rate), part)
                except DataError as problem:
                    unspoken.append(Lost(f"{document.id}, part {place}", f"{problem}: kept as text", document.id, whole=False))
                    yield from [in_place_of(Text(passage), part)] if self.text == "transcript" else []
            if self.text == "behind":
                yield part
