"""Questions with short answers: spoken ones, yes or no about a picture (POPE), and several pictures at once (Mantis-Eval)."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from mmpt.document import Part, Text
from mmpt.errors import DataError
from mmpt.evaluation.recognition import normalise
from mmpt.evaluation.suite.base import (
    Benchmark,
    Measure,
    Outcome,
    Result,
    ask,
    first,
    image_file,
    mean_measure,
    measure,
    speech_file,
    text_of,
)
from mmpt.evaluation.suite.listening import ListenerConfig, heard, reader

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

T = TypeVar("T")


class SpokenQuestionsConfig(Benchmark):
    """Spoken question answering as LLaMA-Questions, Web Questions and TriviaQA are given for speech models: JSON lines with
    `question`, `audio` (a path in the file's folder) and `answers` (or `answer`).

    Asked by speech, or with `typed` by text; answered in text or, with `spoken`, in speech. Right where one of the answers stands
    in what was said, both normalised; speech is read by `listener`, by default the speech tokenizer.
    """

    kind: Literal["spoken_questions"]
    file: Path
    typed: bool = False
    spoken: bool = False
    listener: ListenerConfig | None = None
    prompt: str = ""
    max_new_tokens: int = 256


class ProbingConfig(Benchmark):
    """Yes or no about objects in a picture (POPE, Li et al. 2023, arXiv:2305.10355): JSON lines with `question_id`, `image`,
    `text` and `label`. Read as POPE reads it: an answer whose first sentence has "no" or "not" is a no, any other a yes."""

    kind: Literal["probing"]
    file: Path
    images: Path
    prompt: str = ""
    max_new_tokens: int = 32


class MultiImageConfig(Benchmark):
    """Questions about several pictures (Mantis-Eval, Jiang et al. 2024, arXiv:2405.01483): JSON or JSON lines with `id`,
    `question_type` (`multi-choice` or `short-answer`), `question` with `<image>` where pictures go, `images`, `options` and
    `answer`.

    Right where the letter of the answer is the first that is named, or the short answer is what was said.
    """

    kind: Literal["multi_image"]
    file: Path
    images: Path
    prompt: str = ""
    max_new_tokens: int = 64


class _Question(NamedTuple):
    item: str
    asked: tuple[Part, ...]
    expected: str
    kind: str = ""


def run_spoken(config: SpokenQuestionsConfig, model: "MultimodalModel") -> Result:
    """The share of right answers."""
    missing: list[str] = []
    questions = first(_spoken(config, missing), config.limit)
    output = "speech" if config.spoken else "text"
    answers = list(ask(model, [one.asked for one in questions], outputs=[output], max_new_tokens=config.max_new_tokens))
    said = heard(model, answers, config.listener) if config.spoken else [text_of(answer) for answer in answers]
    scores = [float(_contains(text, json.loads(one.expected))) for one, text in zip(questions, said, strict=True)]
    asked = "typed" if config.typed else "spoken"
    method = f"{asked} question, {output} answered greedily; right where an answer is contained in it"
    method += f", as read by {reader(config.listener)}" if config.spoken else ""
    return _result(config, method, questions, answers, said, scores, (mean_measure("accuracy", scores),), missing)


def run_probing(config: ProbingConfig, model: "MultimodalModel") -> Result:
    """Accuracy, precision, recall and F1 of yes, and the share of yes, as POPE reports them."""
    missing: list[str] = []
    questions = first(_probes(config, missing), config.limit)
    answers = list(ask(model, [one.asked for one in questions], outputs=["text"], max_new_tokens=config.max_new_tokens))
    said = ["no" if is_no(text_of(answer)) else "yes" for answer in answers]
    scores = [float(got == one.expected) for one, got in zip(questions, said, strict=True)]
    yes, wanted = np.array([got == "yes" for got in said]), np.array([one.expected == "yes" for one in questions])
    return _result(config, "greedy, read by POPE's rule", questions, answers, said, scores, _binary(yes, wanted), missing)


def run_multi_image(config: MultiImageConfig, model: "MultimodalModel") -> Result:
    """The share of right answers, of all and of each type of question."""
    missing: list[str] = []
    questions = first(_multi(config, missing), config.limit)
    answers = list(ask(model, [one.asked for one in questions], outputs=["text"], max_new_tokens=config.max_new_tokens))
    said = [text_of(answer) for answer in answers]
    scores = [
        float(letter_of(got) == one.expected if one.kind == "multi-choice" else normalise(got) == normalise(one.expected))
        for one, got in zip(questions, said, strict=True)
    ]
    measures = [mean_measure("accuracy", scores)]
    for kind in sorted({one.kind for one in questions}):
        own = [score for one, score in zip(questions, scores, strict=True) if one.kind == kind]
        measures.append(mean_measure(f"accuracy, {kind}", own))
    return _result(config, "greedy; exact match", questions, answers, said, scores, tuple(measures), missing)


def is_no(text: str) -> bool:
    """Whether an answer counts as no, by POPE's rule."""
    words = text.partition(".")[0].replace(",", "").lower().split()
    return "no" in words or "not" in words


def letter_of(text: str) -> str:
    """The first option that an answer names, "" where there is none: "(B)", "B.", "B" or "answer: b"."""
    found = re.search(r"\(([A-Ha-h])\)|\b([A-H])\b|^\W*([a-h])\W*$|answer(?:\s+is)?\W+([A-Ha-h])\b", text)
    return next((group.upper() for group in found.groups() if group), "") if found else ""


def _contains(text: str, answers: Sequence[str]) -> bool:
    said = f" {normalise(text)} "
    return any(f" {normalise(answer)} " in said for answer in answers if normalise(answer))


def _binary(yes: np.ndarray, wanted: np.ndarray) -> tuple[Measure, ...]:
    def share(top, of) -> float:
        return float(top.sum() / of.sum()) if of.sum() else 0.0

    def f1(chosen: np.ndarray) -> float:
        precision, recall = (share((yes & wanted)[chosen], side[chosen]) for side in (yes, wanted))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    count = len(yes)
    return (
        measure("accuracy", count, lambda chosen: float((yes == wanted)[chosen].mean())),
        measure("precision", count, lambda chosen: share((yes & wanted)[chosen], yes[chosen])),
        measure("recall", count, lambda chosen: share((yes & wanted)[chosen], wanted[chosen])),
        measure("F1", count, f1),
        measure("share of yes", count, lambda chosen: float(yes[chosen].mean())),
    )


def _result(config, method, questions, answers, said, scores, measures, missing) -> Result:
    outcomes = tuple(
        Outcome(one.item, one.asked, answer, one.expected, got, score)
        for one, answer, got, score in zip(questions, answers, said, scores, strict=True)
    )
    return Result(config.name, method, measures, outcomes, tuple(missing))


def _spoken(config: SpokenQuestionsConfig, missing: list[str]) -> Iterator[_Question]:
    def question(item: str, row: dict) -> _Question:
        answers = row.get("answers", row.get("answer"))
        answers = [answers] if isinstance(answers, str) else answers
        if not isinstance(answers, list) or not answers:
            raise DataError("no answers")
        asked = Text(row["question"]) if config.typed else speech_file(config.file.parent, row["audio"])
        return _Question(item, _prompted(config.prompt, asked), json.dumps([str(answer) for answer in answers]))

    return items_of(config.file, "id", question, missing)


def _probes(config: ProbingConfig, missing: list[str]) -> Iterator[_Question]:
    def question(item: str, row: dict) -> _Question:
        if row["label"] not in ("yes", "no"):
            raise DataError(f"label is {row['label']!r}")
        picture = image_file(config.images, row["image"])
        return _Question(item, _prompted(config.prompt, picture, Text(row["text"])), row["label"])

    return items_of(config.file, "question_id", question, missing)


def _multi(config: MultiImageConfig, missing: list[str]) -> Iterator[_Question]:
    def question(item: str, row: dict) -> _Question:
        images, text = [image_file(config.images, name) for name in row["images"]], row["question"]
        if row["question_type"] == "multi-choice":
            text += "".join(f"\n({'ABCDEFGH'[n]}) {option}" for n, option in enumerate(row["options"]))
        return _Question(item, _prompted(config.prompt, *with_images(text, images)), row["answer"], row["question_type"])

    return items_of(config.file, "id", question, missing)


def items_of(path: Path, key: str, make: Callable[[str, dict], T], missing: list[str]) -> Iterator[T]:
    """`make(item, row)` of each row, `item` being its `key` or its number; those that lack something go to `missing`."""
    for number, row in enumerate(json_rows(path)):
        item = str(row.get(key, number))
        try:
            yield make(item, row)
        except KeyError as problem:
            missing.append(f"{item}: {problem} is missing")
        except DataError as problem:
            missing.append(f"{item}: {problem}")


def with_images(text: str, images: Sequence[Part]) -> list[Part]:
    """`text` with pictures where `<image>` stands; those that have no place come first. Raises `DataError` where there are more
    places than pictures."""
    pieces = text.split("<image>")
    if len(pieces) - 1 > len(images):
        raise DataError(f"{len(pieces) - 1} places for {len(images)} pictures")
    left = list(images)
    found: list[Part] = [left.pop(0) for _ in range(len(images) - (len(pieces) - 1))]
    for number, piece in enumerate(pieces):
        if piece.strip():
            found.append(Text(piece.strip()))
        if number < len(pieces) - 1:
            found.append(left.pop(0))
    return found


def json_rows(path: Path) -> list[dict]:
    """The objects of a JSON list or of JSON lines. Raises `DataError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as problem:
        raise DataError(f"{path}: neither a JSON list nor JSON lines ({problem})") from None
    wrong = [number for number, row in enumerate(rows) if not isinstance(row, dict)]
    if wrong:
        raise DataError(f"{path}: row {wrong[0]} is no JSON object")
    return rows


def _prompted(prompt: str, *parts: Part) -> tuple[Part, ...]:
    return (Text(prompt), *parts) if prompt else parts
