"""What every answer of a writer is held against before anything is made of it."""

import re
from dataclasses import replace

import pydantic

from mmpt.config import Schema
from mmpt.data.curate.rules.language import Language
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text

LOOP = 6
"""Words of a run that, said again, is repetition."""
COPY = 8
"""Words of a run that, found in the prompt, is copied."""

_LONG = re.compile(r"[^\W\d_]{5,}")
_ENOUGH = 5


class Checks(Schema):
    """What an answer must be like. One that is not is not used, and listed by the rule: answer_refused, answer_unfinished,
    answer_length, answer_repetition, answer_copy, answer_off_topic, answer_language."""

    finished: bool = True
    """Whether an answer that was cut off at its longest goes."""
    least_words: int = pydantic.Field(default=1, ge=0)
    """Words of the shortest answer."""
    most_words: int | None = pydantic.Field(default=None, ge=1)
    """Words of the longest answer; null: any."""
    least_share: float | None = pydantic.Field(default=None, ge=0)
    """Words of an answer ÷ words of what it is about, at least; null: any."""
    most_share: float | None = pydantic.Field(default=None, gt=0)
    """The same, at most."""
    most_repeated: float | None = pydantic.Field(default=0.2, ge=0, le=1)
    """Share of an answer's runs of six words that came before in it; null: not looked at."""
    most_copied: float | None = pydantic.Field(default=None, ge=0, le=1)
    """Share of an answer's runs of eight words that are in the prompt; null: not looked at."""
    least_shared: float | None = pydantic.Field(default=None, ge=0, le=1)
    """Share of an answer's different words of five letters and more that what it is about has, too: what a model says of a text
    instead of saying it again has few. Answers of fewer than five such words pass; null: not looked at."""
    languages: tuple[str, ...] = ()
    """Codes (ISO 639-1) of the languages that answers may be in; empty: any."""

    def checked(self, prompt: Prompt, answer: Answer) -> Answer:
        """`answer`, with `rule` and `reason` where it cannot be used."""
        rule, reason = self._problem(prompt, answer)
        return replace(answer, rule=rule, reason=reason)

    def _problem(self, prompt: Prompt, answer: Answer) -> tuple[str, str]:
        if answer.refused:
            return "answer_refused", answer.refused
        if self.finished and not answer.finished:
            return "answer_unfinished", "cut off at its longest"
        words, about = answer.text.split(), prompt.about.split()
        least = max(self.least_words, (self.least_share or 0) * len(about))
        most = min(
            len(words) if self.most_words is None else self.most_words,
            len(words) if self.most_share is None or not about else self.most_share * len(about),
        )
        if not least <= len(words) <= most:
            return "answer_length", f"{len(words)} words, about {len(about)}"
        if self.most_repeated is not None and (share := repeated(words)) > self.most_repeated:
            return "answer_repetition", f"{share:.0%} of it came before in it"
        if self.most_copied is not None and (share := copied(words, prompt.text.split())) > self.most_copied:
            return "answer_copy", f"{share:.0%} of it is in the prompt"
        if self.least_shared is not None and (share := shared(answer.text, prompt.about)) < self.least_shared:
            return "answer_off_topic", f"{share:.0%} of its long words are in the text"
        if self.languages:
            found = Language(keep=self.languages, min_confidence=0).judge(Document("", "", (Text(answer.text),)))
            if found.reason:
                return "answer_language", found.reason
        return "", ""


def repeated(words: list[str]) -> float:
    """Share of the runs of `LOOP` words that came before."""
    runs = _runs(words, LOOP)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def copied(words: list[str], prompt: list[str]) -> float:
    """Share of the runs of `COPY` words that are in `prompt`."""
    runs, known = _runs(words, COPY), set(_runs(prompt, COPY))
    return sum(run in known for run in runs) / len(runs) if runs else 0.0


def shared(answer: str, about: str) -> float:
    """Share of the different long words of `answer` that `about` has; 1 where there are fewer than five of them."""
    words = set(_LONG.findall(answer.casefold()))
    return len(words & set(_LONG.findall(about.casefold()))) / len(words) if len(words) >= _ENOUGH else 1.0


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    folded = [word.casefold() for word in words]
    return [tuple(folded[start : start + length]) for start in range(len(folded) - length + 1)]
