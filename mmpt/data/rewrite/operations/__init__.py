"""Operations: what a writer is asked about a document, and what becomes of the document by its answers.

operation: {kind: rephrase, styles: [medium, qa]}
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from mmpt.data.lost import Documents, Lost
from mmpt.data.passages import passages
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text
from mmpt.methods import Method


class Operation(Method):
    """A way to rewrite documents. Prompts and results may depend on nothing but the settings, the document and the answers."""

    key: ClassVar[str] = "operation"

    checks: Checks = Checks()
    """What an answer must be like to be used."""

    @abstractmethod
    def ask(self, document: Document) -> list[Prompt]:
        """What is asked about a document; nothing: it stays as it is."""

    @abstractmethod
    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        """What becomes of a document by an answer to each of its prompts, in their order; an answer that cannot be used has a
        `rule`. Between the documents what was lost: each answer of which nothing is made."""


def texts(document: Document, most_words: int, least_words: int = 1) -> Iterator[tuple[int, list[tuple[str, bool]]]]:
    """(place, passages) of each text that nobody says, and of each passage whether it has words enough to be asked about."""
    for place, part in enumerate(document.parts):
        if isinstance(part, Text) and part.role is None:
            yield place, [(one, len(one.split()) >= least_words) for one in passages(part.text, most_words)]


def unused(document: Document, number: int, answer: Answer) -> Lost:
    """That answer `number` about a document cannot be used."""
    return Lost(f"{document.id}, answer {number}", answer.reason, document.id, False, answer.rule)


def origin(document: Document, operation: Operation, **more: object) -> dict:
    """The meta of a document that was made of `document`."""
    return {**document.meta, "rewritten": {"from": document.id, "by": operation.kind, **more}}
