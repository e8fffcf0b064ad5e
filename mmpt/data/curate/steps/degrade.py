"""Interleaved documents to simpler ones: pairs of a picture and a text, or plain text. Every part that goes is listed."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import ClassVar, Literal

from mmpt.data.curate.steps import Step
from mmpt.data.lost import Lost
from mmpt.document import Document, Image, Speech, Text
from mmpt.modality import modality_of

RULE = "degrade"


class Degrade(Step):
    """Interleaved documents made simpler, to measure what interleaving gives: McKinzie et al. 2024, "MM1" (arXiv:2403.09611),
    section 3.2, compares captions, text and interleaved documents.

    Turns of a conversation are none in the result. Parts that are in no result are listed with the rule "degrade"; a document of
    which nothing is left, whole.
    """

    carries: ClassVar[tuple[str, ...]] = ("OmniCorpus",)

    to: Literal["pairs", "text"]
    """pairs: each picture with its text. text: the text parts joined where they have one loss weight."""
    text: Literal["alt", "nearest"] = "nearest"
    """The text of a picture in a pair: its alternative text, or the nearest text part, of two as near the following."""
    transcripts: bool = True
    """Whether plain text keeps what utterances say, in place."""

    def run(self, documents: Iterable[Document | Lost], told: None = None) -> Iterator[Document | Lost]:
        """The degraded documents of a shard."""
        for document in documents:
            if isinstance(document, Lost):
                yield document
            elif self.to == "pairs":
                yield from _pairs(document, self.text)
            else:
                yield from _text(document, self.transcripts)


def _pairs(document: Document, which: str) -> Iterator[Document | Lost]:
    texts = {place: part for place, part in enumerate(document.parts) if isinstance(part, Text)}
    pairs: list[Document] = []
    kept: set[int | None] = set()
    for place, part in enumerate(document.parts):
        if isinstance(part, Image):
            nearest = _nearest(texts, place) if which == "nearest" else None
            text = texts[nearest] if nearest is not None else Text(part.alt if which == "alt" else "", part.weight)
            if text.text.strip():
                kept |= {place, nearest}
                pair = (replace(part, role=None, turn=0), replace(text, role=None, turn=0))
                pairs.append(Document(f"{document.id}/{place}", document.source, pair, document.meta))
    yield from pairs
    if not pairs:
        yield Lost(document.id, "no pair in it", document.id, True, RULE)
        return
    for place, part in enumerate(document.parts):
        if place not in kept:
            reason = "a picture without a text" if isinstance(part, Image) else "in no pair"
            yield Lost(f"{document.id}, part {place}", reason, document.id, False, RULE)


def _nearest(places: Iterable[int], place: int) -> int | None:
    return min(places, key=lambda other: (abs(other - place), other < place), default=None)


def _text(document: Document, transcripts: bool) -> Iterator[Document | Lost]:
    texts: list[Text] = []
    for place, part in enumerate(document.parts):
        if not (isinstance(part, Text) or isinstance(part, Speech) and transcripts):
            reason = f"{modality_of(part)} in plain text"
        elif not part.text.strip():
            reason = f"{modality_of(part)} without a word"
        else:
            texts.append(Text(part.text, part.weight))
            continue
        yield Lost(f"{document.id}, part {place}", reason, document.id, False, RULE)
    if texts:
        yield Document(document.id, document.source, tuple(_joined(texts)), document.meta)
    else:
        yield Lost(document.id, "no text in it", document.id, True, RULE)


def _joined(texts: list[Text]) -> Iterator[Text]:
    """Texts of one weight, which follow each other, as one; an empty line between any two."""
    groups = [(weight, [text.text for text in group]) for weight, group in groupby(texts, key=lambda text: text.weight)]
    for number, (weight, group) in enumerate(groups, start=1):
        yield Text("\n\n".join(group) + ("\n\n" if number < len(groups) else ""), weight)
