"""Tasks made of texts: an instruction and its response, as conversations."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, texts, unused
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text

NO_TASK = "no_task"
"""The rule by which answers are listed that hold no task."""
PIPE = "<|pipe|>"
CONTEXT = "{{context}}"
_INSTRUCTION = re.compile(r"\s*\**Instruction:?\**:?\s*(?P<asked>.+?)\s*\n\s*\**Response:?\**:?\s*(?P<said>.+?)\s*", re.DOTALL)


class Tasks(Operation):
    """Conversations made of texts that nobody annotated: for each passage and kind of task an instruction and its response
    (Bonito, Nayak et al. 2024, arXiv:2402.18334).

    `form: bonito` asks in the form that the released generator was trained in, BatsResearch/bonito-v1; `instruct` asks any model
    that follows instructions. Only the response is learned. Of the document itself nothing is written but with `original`.
    """

    carries: ClassVar[tuple[str, ...]] = ("Bonito (conditional task generation)",)

    tasks: tuple[str, ...] = pydantic.Field(default=("question answering without choices",), min_length=1)
    """Kinds of task, such as "yes-no question answering", "summarization", "natural language inference"."""
    form: Literal["bonito", "instruct"] = "instruct"
    """How it is asked."""
    original: bool = False
    """Whether the document itself is written before them."""
    max_words: int = pydantic.Field(default=300, ge=1)
    """Words of a passage at most."""
    least_words: int = pydantic.Field(default=20, ge=1)
    """Of a shorter passage no task is made."""
    checks: Checks = Checks(least_words=2)
    """What an answer must be like, before it is read."""

    def ask(self, document: Document) -> list[Prompt]:
        return [self._prompt(text, task) for text in self._asked(document) for task in self.tasks]

    def _asked(self, document: Document) -> list[str]:
        return [text for _, pieces in texts(document, self.max_words, self.least_words) for text, long in pieces if long]

    def _prompt(self, text: str, task: str) -> Prompt:
        if self.form == "bonito":
            return Prompt(asked_of_generator(task, text), text, plain=True)
        return Prompt(
            f"Write one task of the kind '{task}' about the text below, and its solution, in this form and nothing else:\n"
            f"Instruction: …\nResponse: …\n\nText:\n{text.strip()}",
            text,
        )

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        if self.original:
            yield document
        asked = [(text.strip(), task) for text in self._asked(document) for task in self.tasks]
        written = 0
        for number, (answer, (text, task)) in enumerate(zip(answers, asked, strict=True)):
            found = None if answer.rule else self._read(answer.text, text)
            if found is None:
                reason = answer.reason or f"no instruction with a response: {answer.text.strip()[:60]!r}"
                yield unused(document, number, Answer(answer.text, rule=answer.rule or NO_TASK, reason=reason))
                continue
            written += 1
            parts = (Text(found[0], 0.0, "user"), Text(found[1], 1.0, "assistant", 1))
            yield Document(f"{document.id}/task-{number}", document.source, parts, origin(document, self, task=task))
        if not written and not self.original:
            yield Lost(document.id, "no task was made of it", document.id, True, self.kind)

    def _read(self, answer: str, text: str) -> tuple[str, str] | None:
        """(instruction with the passage in it, response)."""
        if self.form == "bonito":
            asked, pipe, said = (one.strip() for one in answer.partition(PIPE))
            return (asked.replace(CONTEXT, text), said) if pipe and asked and said and PIPE not in said else None
        found = _INSTRUCTION.fullmatch(answer)
        if not found or "Instruction:" in found["said"]:
            return None
        return f"{text}\n\n{found['asked']}", found["said"]


def asked_of_generator(task: str, text: str) -> str:
    """What the released generator continues."""
    return f"<|tasktype|>\n{task}\n<|context|>\n{text.strip()}\n<|task|>\n"
