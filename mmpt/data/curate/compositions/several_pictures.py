"""Several pictures in one conversation, each marked by its number."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

import pydantic

from mmpt.data.curate.compositions import Composition
from mmpt.data.curate.pictures_asked import (
    About,
    Asked,
    Mark,
    Question,
    composed,
    grouped,
    joined,
    marked,
    question_of,
    without_boxes,
)
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Image, Part, Text


class SeveralPictures(Composition):
    """Pictures marked by their numbers, and questions that name them (Mantis, Jiang et al. 2024, arXiv:2405.01483, section 3.1:
    "(image 1: …)").

    Documents and conversations of several pictures keep their parts in order, each picture with its mark around it. Neighbours of
    a shard that are pairs of a picture and a text, or conversations of one question about one picture, become one conversation:
    all pictures first, then one question after the other with its answer. All others stay as they are. With
    `chat: {pictures: …}` of to_tokens pictures are marked there: give `mark: "{image}"` then.
    """

    carries: ClassVar[tuple[str, ...]] = ("MANTIS (interleaved multi-image instruction tuning)",)

    pictures: int = pydantic.Field(default=4, ge=2)
    """Pictures of a conversation that is put together; fewer at the end of a shard."""
    mark: Mark = "(image {number}: {image})"
    """How a picture stands in the text."""
    question: Question = "What does image {number} show?"
    """What is asked about the picture of a pair."""
    about: About = "Of image {number}: {question}"
    """How the question of a conversation is asked."""

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        for one in grouped(documents, self.pictures):
            if isinstance(one, list):
                yield composed(one, self._together(one))
            elif isinstance(one, Document) and sum(isinstance(part, Image) for part in one.parts) > 1:
                yield replace(one, parts=tuple(joined(self._in_place(one))), meta=without_boxes(one.meta))
            else:
                yield one

    def _in_place(self, document: Document) -> Iterable[Part]:
        index = 0
        for part in document.parts:
            if isinstance(part, Image):
                yield from marked(self.mark, index, part, part.role, part.turn, part.weight)
                index += 1
            else:
                yield part

    def _together(self, group: Sequence[Asked]) -> Iterable[Part]:
        for index, one in enumerate(group):
            yield from marked(self.mark, index, one.image, "user", 0, 0.0)
        yield Text("\n", 0.0, "user")
        for index, one in enumerate(group):
            yield Text(question_of(one, index, self.question, self.about), 0.0, "user", 2 * index)
            yield replace(one.answer, role="assistant", turn=2 * index + 1)
