"""The four directions between text and the other modalities, asked of a model on held-out documents and scored.

The model is free in what it answers with: a picture where speech was asked for is a wrong answer.
"""

from collections.abc import Callable, Sequence

from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.evaluation.pictures import Reader
from mmpt.evaluation.suite.base import Outcome, Result, ask, mean_measure, text_of
from mmpt.evaluation.suite.listening import heard
from mmpt.evaluation.suite.speech import error_rates, words_right
from mmpt.inference.load import MultimodalModel
from mmpt.media import decode_image


def speech_to_text(model: MultimodalModel, documents: Sequence[Document], prompt: str) -> Result:
    """Word and character error rate of the text answered to (prompt, utterance)."""
    chosen = _having(documents, Speech, Text)
    asked = [(Text(prompt), part) for _, part, _ in chosen]
    answers = list(ask(model, asked))
    return _recognition("speech_to_text", chosen, asked, answers, [text_of(answer) for answer in answers])


def text_to_speech(model: MultimodalModel, documents: Sequence[Document], prompt: str) -> Result:
    """Word and character error rate of the utterance answered to (prompt + text): its waveform is encoded again and read by the
    speech tokenizer's own text decoder."""
    chosen = _having(documents, Speech, Text)
    asked = [(Text(f"{prompt} {text.text}"),) for _, _, text in chosen]
    answers = list(ask(model, asked))
    return _recognition("text_to_speech", chosen, asked, answers, heard(model, answers))


def image_to_text(model: MultimodalModel, documents: Sequence[Document], prompt: str, same: Callable[[str, str], bool]) -> Result:
    """Share of pictures whose text answer says all that the expected text says, by `same`."""
    chosen = _having(documents, Image, Text)
    asked = [(Text(prompt), part) for _, part, _ in chosen]
    answers = list(ask(model, asked))
    return _accuracy("image_to_text", chosen, asked, answers, [text_of(answer) for answer in answers], same)


def text_to_image(
    model: MultimodalModel, documents: Sequence[Document], prompt: str, read: Reader, same: Callable[[str, str], bool]
) -> Result:
    """Share of texts whose picture answer shows all that the text says, as `read` from its pixels."""
    chosen = _having(documents, Image, Text)
    asked = [(Text(f"{prompt} {text.text}"),) for _, _, text in chosen]
    answers = list(ask(model, asked))
    pictures = [next((part for part in answer if isinstance(part, Image)), None) for answer in answers]
    seen = [read(decode_image(picture.data)) if picture else "" for picture in pictures]
    return _accuracy("text_to_image", chosen, asked, answers, seen, same)


def _having(documents: Sequence[Document], kind: type, other: type) -> list[tuple[Document, Part, Text]]:
    """(document, its first part of `kind`, its first of `other`) for the documents that hold both."""
    found = []
    for document in documents:
        first, second = (next((p for p in document.parts if isinstance(p, wanted)), None) for wanted in (kind, other))
        if first is not None and second is not None:
            found.append((document, first, second))
    return found


def _recognition(task: str, chosen, asked, answers, read) -> Result:
    expected = [text.text for _, _, text in chosen]
    outcomes = _outcomes(chosen, asked, answers, read, words_right)
    return Result(task, "greedy, any answer allowed; jiwer, normalised", error_rates(expected, read), outcomes)


def _accuracy(task: str, chosen, asked, answers, read, same: Callable[[str, str], bool]) -> Result:
    outcomes = _outcomes(chosen, asked, answers, read, lambda wanted, found: float(same(wanted, found)))
    measures = (mean_measure("accuracy", [one.score for one in outcomes]),)
    return Result(task, "greedy, any answer allowed; everything right", measures, outcomes)


def _outcomes(chosen, asked, answers, read, score: Callable[[str, str], float]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(document.id, tuple(question), answer, text.text, found, score(text.text, found))
        for (document, _, text), question, answer, found in zip(chosen, asked, answers, read, strict=True)
    )
