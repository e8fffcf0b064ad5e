"""Recognition and synthesis: word and character error rates over any source of documents with speech and its text.

Both sides go through `mmpt.evaluation.recognition.normalise`: lower case, letters, digits and apostrophes, single spaces.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import jiwer
import numpy as np

from mmpt.data.lost import Lost
from mmpt.data.sources import Source
from mmpt.document import Part, Speech, Text
from mmpt.errors import DataError
from mmpt.evaluation.recognition import normalise
from mmpt.evaluation.suite.base import Benchmark, Measure, Outcome, Result, ask, measure, text_of
from mmpt.evaluation.suite.listening import ListenerConfig, heard, reader

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class RecognitionConfig(Benchmark):
    """Speech to text (`recognition`) or text to speech (`synthesis`) on the utterances of `source`, such as `{kind: librispeech,
    folder: …}`. `prompt` comes before what is given. `listener` reads what is spoken, by default the speech tokenizer."""

    kind: Literal["recognition", "synthesis"]
    source: Source
    prompt: str = ""
    max_new_tokens: int = 512
    listener: ListenerConfig | None = None


def run(config: RecognitionConfig, model: "MultimodalModel") -> Result:
    """WER and CER, over all words and characters together; of synthesis, of the sound read back."""
    utterances, missing = utterances_of(config.source, config.limit)
    before = (Text(config.prompt),) if config.prompt else ()
    listening = config.kind == "recognition"
    asked = [(*before, speech if listening else Text(text)) for _, speech, text in utterances]
    answers = list(ask(model, asked, outputs=["text" if listening else "speech"], max_new_tokens=config.max_new_tokens))
    found = [text_of(answer) for answer in answers] if listening else heard(model, answers, config.listener)
    expected = [text for *_, text in utterances]
    outcomes = tuple(
        Outcome(name, tuple(question), answer, wanted, got, words_right(wanted, got))
        for (name, *_), question, answer, wanted, got in zip(utterances, asked, answers, expected, found, strict=True)
    )
    method = "greedy; " + ("the text answered" if listening else f"the speech answered, read by {reader(config.listener)}")
    return Result(config.name, f"{method}; jiwer, normalised", error_rates(expected, found), outcomes, tuple(missing))


def error_rates(expected: Sequence[str], found: Sequence[str]) -> tuple[Measure, Measure]:
    """Word and character error rate over all pairs together, with intervals over resampled pairs."""
    counts = np.array([_errors([wanted], [got]) for wanted, got in zip(expected, found, strict=True)], dtype=np.float64)
    counts = counts.reshape(-1, 4)

    def rate(chosen: np.ndarray, errors: int) -> float:
        total = counts[chosen, errors + 1].sum()
        return float(counts[chosen, errors].sum() / total) if total else float("nan")

    return (
        measure("WER", len(counts), lambda chosen: rate(chosen, 0), "less"),
        measure("CER", len(counts), lambda chosen: rate(chosen, 2), "less"),
    )


def words_right(expected: str, found: str) -> float:
    """1 less the word errors of one answer by its words: 1 where it is right, below 0 where there are more errors than words."""
    return 1 - _errors([expected], [found])[0] / max(1, len(normalise(expected).split()))


def utterances_of(source: Source, limit: int | None) -> tuple[list[tuple[str, Speech, str]], list[str]]:
    """(id, speech, its text) of the documents of a source, and what could not be had."""
    found, missing = [], []
    for document in source.documents():
        if isinstance(document, Lost):
            missing.append(f"{document.item}: {document.reason}")
            continue
        speech = next((part for part in document.parts if isinstance(part, Speech)), None)
        text = _text_beside(document.parts, speech) if speech else ""
        if speech is None or not text:
            missing.append(f"{document.id}: no speech with a text")
            continue
        found.append((document.id, speech, text))
        if limit is not None and len(found) == limit:
            return found, missing
    if not found:
        raise DataError(f"{source.kind}: no document has speech with a text")
    return found, missing


def _text_beside(parts: Sequence[Part], speech: Speech) -> str:
    return speech.text or next((part.text for part in parts if isinstance(part, Text)), "")


def _errors(expected: list[str], found: list[str]) -> tuple[int, int, int, int]:
    """(word errors, words, character errors, characters)."""
    wanted, got = [normalise(text) for text in expected], [normalise(text) for text in found]
    words, letters = jiwer.process_words(wanted, got), jiwer.process_characters(wanted, got)
    return (
        words.substitutions + words.deletions + words.insertions,
        words.hits + words.substitutions + words.deletions,
        letters.substitutions + letters.deletions + letters.insertions,
        letters.hits + letters.substitutions + letters.deletions,
    )
