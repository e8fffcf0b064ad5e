"""Texts mended by small programs that a model writes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, texts, unused
from mmpt.data.rewrite.programs import parse, run
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text
from mmpt.errors import DataError

BAD_PROGRAM = "bad_program"
"""The rule by which programs are listed that cannot be run."""
_ASK = {
    "chunk": "Below are the numbered lines of a web page. Write a program that removes what does not belong to the text, "
    "such as menus, advertisements and links, one call a line. There are: remove_lines(first, last), which removes these lines; "
    'normalize("old", "new"), which replaces a string; keep_chunk(), alone, where nothing is to be changed. Write the program '
    "and nothing else.\n\n{text}",
    "document": "Below are the numbered lines of a web page. Write keep_doc() where it is worth reading for somebody who "
    "learns from it, drop_doc() where it is not, and nothing else.\n\n{text}",
}


class Refine(Operation):
    """Documents by programs that keep or drop them, remove lines and replace strings (ProX, Zhou et al. 2024, arXiv:2409.17115).

    Programs are parsed, never evaluated. One that is no program, or speaks of what is not there, leaves the text as it was and is
    listed by the rule bad_program. A document that a program drops, or of which nothing is left, is listed by the rule refine.
    """

    carries: ClassVar[tuple[str, ...]] = ("ProX (programming every example)",)

    stage: Literal["document", "chunk"] = "chunk"
    """document: is it kept; chunk: lines and strings. ProX does one after the other."""
    ask_by: str = ""
    """What is asked instead of our own words, with {text} where the numbered lines stand; of models that were tuned to."""
    plain: bool = False
    """Whether the model continues that as it is, without its chat template."""
    max_words: int = pydantic.Field(default=900, ge=1)
    """Words of a chunk at most; ProX takes 1,500 tokens."""
    checks: Checks = Checks(most_repeated=None)
    """What a program must be like, before it is parsed."""

    @pydantic.field_validator("ask_by")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value and value.count("{text}") != 1:
            raise ValueError("expected {text} once in it")
        return value

    def ask(self, document: Document) -> list[Prompt]:
        form = self.ask_by or _ASK[self.stage]
        return [Prompt(form.replace("{text}", _numbered(text)), text, plain=self.plain) for text in self._asked(document)]

    def _asked(self, document: Document) -> list[str]:
        found = [text for _, pieces in texts(document, self.max_words) for text, long in pieces if long]
        return found[:1] if self.stage == "document" else found

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        given = enumerate(answers)
        parts: list = []
        lost: list[Lost] = []
        changed = 0
        by_place = dict(texts(document, self.max_words))
        for place, part in enumerate(document.parts):
            if place not in by_place or not isinstance(part, Text):
                parts.append(part)
                continue
            found = ""
            for text, long in by_place[place]:
                number, answer = next(given, (0, None)) if long else (0, None)
                new = text if answer is None else self._run(document, number, answer, text, lost)
                if new is None:
                    yield Lost(document.id, f"the program drops it: {answer.text.strip()[:60] if answer else ''}",
                               document.id, True, self.kind)  # fmt: skip
                    return
                changed += new != text
                found += new
            if found.strip() or not part.text.strip():
                parts.append(replace(part, text=found))
        yield from lost
        if not parts:
            yield Lost(document.id, "programs leave nothing of it", document.id, True, self.kind)
        else:
            meta = origin(document, self, passages=changed) if changed else document.meta
            yield replace(document, parts=tuple(parts), meta=meta)

    def _run(self, document: Document, number: int, answer: Answer, text: str, lost: list[Lost]) -> str | None:
        if answer.rule:
            lost.append(unused(document, number, answer))
            return text
        try:
            calls = parse(answer.text)
            if any(call.name.endswith("_doc") != (self.stage == "document") for call in calls):
                raise DataError(f"{calls[0].name} does not belong to the stage {self.stage}")
            return run(calls, text)
        except DataError as problem:
            lost.append(unused(document, number, replace(answer, rule=BAD_PROGRAM, reason=str(problem))))
            return text


def _numbered(text: str) -> str:
    return "\n".join(f"[{number:03d}] {line}" for number, line in enumerate(text.splitlines()))
