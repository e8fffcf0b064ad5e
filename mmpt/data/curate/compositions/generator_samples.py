"""Conversations about a text, turned round: what a generator of tasks learns from."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from mmpt.data.curate.compositions import Composition
from mmpt.data.lost import Documents, Lost
from mmpt.data.rewrite.operations.tasks import CONTEXT, PIPE, asked_of_generator
from mmpt.document import Document, Text


class GeneratorSamples(Composition):
    """Samples to tune a generator of tasks on: the text and the kind of task, then the instruction and its response, which are
    learned (Bonito's meta-templates, Nayak et al. 2024, arXiv:2402.18334, section 3); the operation `tasks` reads what it writes.

    Of a conversation of two texts the user's, up to its last empty line, is the text that the question is about. All others stay
    as they are.
    """

    carries: ClassVar[tuple[str, ...]] = ("Bonito (conditional task generation)",)

    task: str = "question answering without choices"
    """The kind of task of documents that do not say it in meta["task"]."""

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        for one in documents:
            yield one if isinstance(one, Lost) else self._turned(one)

    def _turned(self, document: Document) -> Document:
        said = document.parts
        if (
            len(said) != 2
            or not all(isinstance(part, Text) for part in said)
            or [part.role for part in said] != ["user", "assistant"]
        ):
            return document
        user, assistant = (part.text.strip() for part in said if isinstance(part, Text))
        text, gap, question = user.rpartition("\n\n")
        if not gap or not text.strip() or not question.strip() or not assistant:
            return document
        asked = asked_of_generator(str(document.meta.get("task", self.task)), text)
        parts = (Text(asked, 0.0), Text(f"{CONTEXT}\n\n{question.strip()}{PIPE}\n{assistant}"))
        return replace(document, parts=parts)
