"""Pictures and what is said of them as examples, before a question of the same kind."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import pydantic

from mmpt.data.curate.compositions import Composition
from mmpt.data.curate.pictures_asked import About, Asked, Mark, Question, composed, filled, grouped, marked, question_of
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Part, Text


class InContext(Composition):
    """Questions about a picture, and before them other pictures with questions and answers, each declared by a name that the text
    then uses (MMICL, Zhao et al. 2023, arXiv:2309.07915, section 2.1).

    Neighbours of a shard that are pairs of a picture and a text, or conversations of one question about one picture, become one
    conversation, of which only what is asked for is learned. All others stay as they are. With `chat: {pictures: …}` of to_tokens
    pictures are declared there: give `declaration: "{image}"` then.
    """

    carries: ClassVar[tuple[str, ...]] = ("MMICL (multi-modal in-context learning)",)

    examples: int = pydantic.Field(default=4, ge=1)
    """Pictures before the one that is asked about; fewer at the end of a shard."""
    ask: Literal["describe", "which"] = "describe"
    """describe: the question of the last picture; which: all pictures first, then for each text, in an order that is drawn, which
    picture it belongs to."""
    declaration: Mark = "image {index}: {image}\n"
    """How a picture stands in the text."""
    question: Question = "What does image {index} show?"
    """What is asked about the picture of a pair."""
    about: About = "Of image {index}: {question}"
    """How the question of a conversation is asked."""
    which: str = "Which image is this: {text}"
    """How a text is asked about."""
    answer: Question = "image {index}"
    """The answer to that."""
    seed: int = 0
    """What orders are drawn with."""

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        for one in grouped(documents, self.examples + 1):
            if isinstance(one, list):
                yield composed(one, self._described(one) if self.ask == "describe" else self._found(one))
            else:
                yield one

    def _described(self, group: Sequence[Asked]) -> Iterable[Part]:
        for index, one in enumerate(group):
            yield from marked(self.declaration, index, one.image, "user", 0, 0.0)
            question = question_of(one, index, self.question, self.about)
            if one is group[-1]:
                yield Text(question, 0.0, "user")
                yield replace(one.answer, role="assistant", turn=1)
            else:
                yield Text(f"{question} {one.answer.text.strip()}\n\n", 0.0, "user")

    def _found(self, group: Sequence[Asked]) -> Iterable[Part]:
        for index, one in enumerate(group):
            yield from marked(self.declaration, index, one.image, "user", 0, 0.0)
        order = list(range(len(group)))
        random.Random(f"{self.seed} {group[0].document.id}").shuffle(order)
        for turn, index in enumerate(order):
            one = group[index]
            said = f"{one.question} {one.answer.text.strip()}".strip()
            yield Text(self.which.replace("{text}", said), 0.0, "user", 2 * turn)
            yield Text(filled(self.answer, index), one.answer.weight, "assistant", 2 * turn + 1)
