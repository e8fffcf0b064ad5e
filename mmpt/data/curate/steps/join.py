"""Short utterances to long ones: neighbours of a shard one after the other, in one sound with one transcript."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pydantic

from mmpt.data.curate.steps import Step
from mmpt.data.curate.utterances import lone_utterance
from mmpt.data.lost import Lost
from mmpt.document import Document, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_speech, encode_flac

RULE = "join"
RATE = 16_000


class Join(Step):
    """Utterances one after the other, as long as a recogniser is to hear them: Whisper learned from pieces of 30 s with all that
    is said in them (Radford et al. 2022, arXiv:2212.04356, section 2.1). What learns from clips of ten words alone ends every
    text after so many.

    Documents of one utterance, and before or after it at most what it says as a text, as corpora of clips give them, are joined
    with those that follow of the same form, source, language and license, 16 kHz, a space between their texts; all others stay as
    they are. The first's id stands for all, `meta` names each.
    """

    least: float = pydantic.Field(default=4.0, gt=0)
    """Seconds that the shortest of them are to have."""
    most: float = pydantic.Field(default=28.0, gt=0)
    """Seconds that none is longer than; only a clip that already is stays so. How long each is to be is drawn between the two."""
    seed: int = 0

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least is {self.least}, above most, {self.most}")
        return self

    def run(self, documents: Iterable[Document | Lost], told: None = None) -> Iterator[Document | Lost]:
        """The joined documents of a shard."""
        open_: _Joined | None = None
        for document in documents:
            clip = None if isinstance(document, Lost) else lone_utterance(document)
            if isinstance(document, Lost) or clip is None:
                yield document
                continue
            try:
                samples = decode_speech(clip.data, RATE)
            except DataError as problem:
                yield Lost(document.id, str(problem), document.id, True, RULE)
                continue
            full = open_ and open_.samples + len(samples) > self.most * RATE
            if open_ and (full or _form(open_.first) != _form(document)):
                yield open_.document()
                open_ = None
            open_ = open_ or _Joined(document, self._goal(document.id))
            open_.add(document.id, clip, samples)
            if open_.samples >= open_.goal:
                yield open_.document()
                open_ = None
        if open_:
            yield open_.document()

    def _goal(self, first: str) -> float:
        """Samples that what the clip `first` begins is to have; of its id alone, so that any process draws the same."""
        return RATE * random.Random(f"{self.seed} {first}").uniform(self.least, self.most)


@dataclass
class _Joined:
    first: Document
    goal: float
    samples: int = 0
    ids: list[str] = field(default_factory=list)
    clips: list[tuple[Speech, np.ndarray]] = field(default_factory=list)

    def add(self, name: str, clip: Speech, samples: np.ndarray) -> None:
        self.ids.append(name)
        self.clips.append((clip, samples))
        self.samples += len(samples)

    def document(self) -> Document:
        if len(self.clips) == 1:
            return self.first
        words, before = [], 0.0
        for clip, samples in self.clips:
            words += [(word, start + before, end + before) for word, start, end in clip.words]
            before += len(samples) / RATE
        timed = all(clip.words or not clip.text.strip() for clip, _ in self.clips)
        text = " ".join(text for clip, _ in self.clips if (text := clip.text.strip()))
        speech = Speech(
            data=encode_flac(np.concatenate([samples for _, samples in self.clips]), RATE),
            suffix="flac",
            sample_rate=RATE,
            duration=before,
            text=text,
            words=tuple(words) if timed else (),
            weight=self.clips[0][0].weight,
        )
        parts = tuple(replace(part, text=text) if isinstance(part, Text) else speech for part in self.first.parts)
        return Document(self.first.id, self.first.source, parts, {**self.first.meta, "joined": self.ids})


def _form(document: Document) -> tuple[object, ...]:
    """What `document` consists of and what is said of all of it; only documents that are alike in this are joined."""
    said = (document.meta.get(name) for name in ("language", "license"))
    return (document.source, *said, *((type(part), part.weight) for part in document.parts))
