"""The four directions between text and the other modalities, asked of a model on held-out documents and scored.

The model is free in what it answers with: a picture where speech was asked for is a wrong answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.evaluation.pictures import Reader
from mmpt.evaluation.recognition import word_error_rate
from mmpt.inference.load import MultimodalModel
from mmpt.media import decode_image, decode_speech

BATCH = 50


@dataclass(frozen=True)
class Example:
    """One question: what was `asked`, what was `expected` (text), what was `answered`, and how the answer was `read`."""

    document: str
    asked: tuple[Part, ...]
    answered: tuple[Part, ...]
    expected: str
    read: str
    right: bool


@dataclass(frozen=True)
class Result:
    """All examples of one task and the figure over them: a word error rate or a share of right answers."""

    task: str
    figure: float
    examples: tuple[Example, ...]


def speech_to_text(model: MultimodalModel, documents: Sequence[Document], prompt: str) -> Result:
    """Word error rate of the text answered to (prompt, utterance)."""
    chosen = _having(documents, Speech, Text)
    answers = _answers(model, [(Text(prompt), part) for _, part, _ in chosen])
    return _recognition("speech_to_text", chosen, [(Text(prompt), part) for _, part, _ in chosen], answers, map(_text, answers))


def text_to_speech(model: MultimodalModel, documents: Sequence[Document], prompt: str) -> Result:
    """Word error rate of the utterance answered to (prompt + text): its waveform is encoded again and read by the speech
    tokenizer's own text decoder."""
    chosen = _having(documents, Speech, Text)
    asked = [(Text(f"{prompt} {text.text}"),) for _, _, text in chosen]
    answers = _answers(model, asked)
    return _recognition("text_to_speech", chosen, asked, answers, _read_aloud(model, answers))


def image_to_text(model: MultimodalModel, documents: Sequence[Document], prompt: str, same: Callable[[str, str], bool]) -> Result:
    """Share of pictures whose text answer says all that the expected text says, by `same`."""
    chosen = _having(documents, Image, Text)
    asked = [(Text(prompt), part) for _, part, _ in chosen]
    answers = _answers(model, asked)
    return _accuracy("image_to_text", chosen, asked, answers, map(_text, answers), same)


def text_to_image(
    model: MultimodalModel, documents: Sequence[Document], prompt: str, read: Reader, same: Callable[[str, str], bool]
) -> Result:
    """Share of texts whose picture answer shows all that the text says, as `read` from its pixels."""
    chosen = _having(documents, Image, Text)
    asked = [(Text(f"{prompt} {text.text}"),) for _, _, text in chosen]
    answers = _answers(model, asked)
    pictures = [next((part for part in answer if isinstance(part, Image)), None) for answer in answers]
    return _accuracy("text_to_image", chosen, asked, answers, (read(decode_image(p.data)) if p else "" for p in pictures), same)


def _having(documents: Sequence[Document], kind: type, other: type) -> list[tuple[Document, Part, Text]]:
    """(document, its first part of `kind`, its first of `other`) for the documents that hold both."""
    found = []
    for document in documents:
        first, second = (next((p for p in document.parts if isinstance(p, wanted)), None) for wanted in (kind, other))
        if first is not None and second is not None:
            found.append((document, first, second))
    return found


def _answers(model: MultimodalModel, asked: Sequence[Sequence[Part]]) -> list[tuple[Part, ...]]:
    batches = (asked[start : start + BATCH] for start in range(0, len(asked), BATCH))
    return [answer.parts for batch in batches for answer in model.answer(batch)]


def _text(answer: tuple[Part, ...]) -> str:
    return " ".join(part.text for part in answer if isinstance(part, Text))


def _read_aloud(model: MultimodalModel, answers: Sequence[tuple[Part, ...]]) -> Iterator[str]:
    tokenizer = model.tokenizer.speech
    sounds = [
        np.concatenate(
            [decode_speech(part.data, tokenizer.sample_rate) for part in answer if isinstance(part, Speech)] or [np.zeros(0)]
        )
        for answer in answers
    ]
    heard = iter(tokenizer.transcribe(tokenizer.encode([sound for sound in sounds if len(sound)])))
    return (next(heard) if len(sound) else "" for sound in sounds)


def _recognition(task: str, chosen, asked, answers, read) -> Result:
    read = list(read)
    expected = [text.text for _, _, text in chosen]
    rows = zip(chosen, asked, answers, expected, read, strict=True)
    examples = tuple(
        Example(document.id, tuple(question), answer, wanted, heard, word_error_rate([wanted], [heard]) == 0)
        for (document, _, _), question, answer, wanted, heard in rows
    )
    return Result(task, word_error_rate(expected, read), examples)


def _accuracy(task: str, chosen, asked, answers, read, same: Callable[[str, str], bool]) -> Result:
    rows = zip(chosen, asked, answers, read, strict=True)
    examples = tuple(
        Example(document.id, tuple(question), answer, text.text, seen, same(text.text, seen))
        for (document, _, text), question, answer, seen in rows
    )
    return Result(task, sum(example.right for example in examples) / len(examples), examples)
