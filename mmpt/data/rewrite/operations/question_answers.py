"""Questions whose answers stand in a text."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.passages import in_place
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, texts, unused
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text

NOT_IN_TEXT = "answer_not_in_text"
"""The rule by which pairs are listed whose answer does not stand in the text."""
NO_PAIR = "no_pair"
"""The rule by which answers of a writer are listed that hold no pair."""
_PAIR = re.compile(
    r"(?:Question|Q)(?: ?\d+)?[:.)]\**\s*(?P<question>[^\n]+?)\s*\n+"
    r"\W*(?:Answer|A)(?: ?\d+)?[:.)]\**\s*(?P<answer>[^\n]+)"
)


class QuestionAnswers(Operation):
    """Questions and answers about a text, each answer word for word in it (SQuAD's form of an answer, Rajpurkar et al. 2016,
    arXiv:1606.05250, here asked of a model; next to the text, as Llama-3-SynE has them, Chen et al. 2024, arXiv:2407.18743).

    Case, white space and a full stop at the end aside. Pairs whose answer is not in the text are listed, one by one.
    """

    carries: ClassVar[tuple[str, ...]] = ("Llama-3-SynE (effective continual pre-training)",)

    pairs: int = pydantic.Field(default=3, ge=1)
    """How many are asked for, of a passage."""
    to: Literal["conversation", "text"] = "conversation"
    """conversation: a document of its own for each passage, the text and the first question said by the user; text: behind the
    passage, in its document."""
    original: bool = True
    """Whether the document itself is written before the conversations."""
    max_words: int = pydantic.Field(default=300, ge=1)
    """Words of a passage at most."""
    least_words: int = pydantic.Field(default=20, ge=1)
    """Of a shorter passage nothing is asked."""
    checks: Checks = Checks(least_words=4)
    """What an answer of the writer must be like, before pairs are read in it."""

    def ask(self, document: Document) -> list[Prompt]:
        return [
            Prompt(
                f"Write {self.pairs} questions about the text below, each with its answer. An answer is a few words, copied from "
                f"the text exactly as they stand there. Use this form and write nothing else:\nQuestion: …\nAnswer: …\n\n"
                f"Text:\n{text.strip()}",
                text,
            )
            for _, pieces in texts(document, self.max_words, self.least_words)
            for text, long in pieces
            if long
        ]

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        given = enumerate(answers)
        parts = list(document.parts)
        found: list[Document] = []
        for place, pieces in texts(document, self.max_words, self.least_words):
            said = ""
            for text, long in pieces:
                said += text
                number, answer = next(given) if long else (0, None)
                if answer is None:
                    continue
                pairs = []
                for one in _pairs(document, number, answer, text):
                    if isinstance(one, Lost):
                        yield one
                    else:
                        pairs.append(one)
                if pairs and self.to == "text":
                    lines = "\n\n".join(f"Question: {question}\nAnswer: {short}" for question, short in pairs)
                    said = f"{said.rstrip()}\n\n{in_place(text.lstrip() or ' ', lines)}"
                elif pairs:
                    name = f"{document.id}/questions-{number}"
                    found.append(Document(name, document.source, _turns(text, pairs), origin(document, self, pairs=len(pairs))))
            parts[place] = replace(parts[place], text=said)
        if self.to == "text":
            changed = tuple(parts) != document.parts
            yield replace(document, parts=tuple(parts), meta=origin(document, self)) if changed else document
        elif self.original:
            yield document
        elif not found:
            yield Lost(document.id, "no question was made of it", document.id, True, self.kind)
        yield from found


def _pairs(document: Document, number: int, answer: Answer, text: str) -> Iterator[tuple[str, str] | Lost]:
    if answer.rule:
        yield unused(document, number, answer)
        return
    plain = _plain(text)
    found = [(match["question"].strip("* "), match["answer"].strip("* ")) for match in _PAIR.finditer(answer.text)]
    if not found:
        reason = f"no question with an answer: {answer.text.strip()[:60]!r}"
        yield unused(document, number, replace(answer, rule=NO_PAIR, reason=reason))
    for question, short in dict(found).items():
        wanted = _plain(short).rstrip(".")
        if wanted and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", plain):
            yield question, short
        else:
            yield unused(document, number, replace(answer, rule=NOT_IN_TEXT, reason=f"{short[:60]!r} is not in the text"))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _turns(text: str, pairs: Sequence[tuple[str, str]]) -> tuple[Text, ...]:
    """The text with the first question, and answers and questions in turn; only answers are learned."""
    asked = [f"{text.strip()}\n\n{pairs[0][0]}", *(question for question, _ in pairs[1:])]
    return tuple(
        turn
        for number, (question, (_, short)) in enumerate(zip(asked, pairs, strict=True))
        for turn in (Text(question, 0.0, "user", 2 * number), Text(short, 1.0, "assistant", 2 * number + 1))
    )
