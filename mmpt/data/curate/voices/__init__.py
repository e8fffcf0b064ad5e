"""Voices: what speaks the spans of words that a text is interleaved with.

speech: {kind: espeak, rate: [160, 210]}
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from mmpt.data.curate.spans import Spans
from mmpt.data.engine.task import Written
from mmpt.data.lost import Lost
from mmpt.document import Document, Part
from mmpt.methods import Method
from mmpt.vocabulary import Vocabulary


class Voice(Method):
    """What makes speech of spans of words."""

    key: ClassVar[str] = "speech"

    @abstractmethod
    def interleave(self, spans: Spans, documents: Iterable[Document | Lost]) -> Written:
        """Each document with spans of its words exchanged between text and speech. What cannot be spoken stays text, and is
        listed."""

    def vocabulary(self) -> Vocabulary | None:
        """Of the token documents that it gives; None: it gives documents."""
        return None


class SoundVoice(Voice):
    """A voice that gives sound."""

    @abstractmethod
    def parts(self, document: Document, spans: Spans, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
        """The parts of the interleaved document. `random` is the document's own: the same state must give the same parts. Why
        something could not be exchanged is added to `unspoken`."""

    def interleave(self, spans: Spans, documents: Iterable[Document | Lost]) -> Iterator[Document | Lost]:
        for document in documents:
            if isinstance(document, Lost):
                yield document
                continue
            unspoken: list[str] = []
            parts = self.parts(document, spans, spans.random(document.id), unspoken)
            yield from (Lost(document.id, reason, document.id, whole=False) for reason in unspoken)
            meta = {**document.meta, "interleaved": {"seed": spans.seed, "epoch": spans.epoch}}
            yield Document(document.id, document.source, tuple(parts), meta)
