"""Which of two sequences a model finds likelier: sWUGGY, sBLIMP, StoryCloze and Topic-StoryCloze, spoken and written.

One rule for all: the right one must have the larger score; equal scores count half. The score is ln p summed over the sequence
after `<|begin|>`, or with `normalise: mean` divided by its tokens.
"""

import csv
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from mmpt.document import Part, Text
from mmpt.errors import DataError
from mmpt.evaluation.likelihood import Modality, preferred, token_scores
from mmpt.evaluation.suite.base import BATCH, Benchmark, Outcome, Result, first, mean_measure, speech_file

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

STORY = ("InputSentence1", "InputSentence2", "InputSentence3", "InputSentence4")
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")


class PairsConfig(Benchmark):
    """`format`:

    - `zerospeech`: sWUGGY and sBLIMP as the ZeroSpeech 2021 challenge gives them, `folder`/gold.csv beside FILENAME.wav; with
      `written`, the words of gold.csv instead of the sound.
    - `spoken_story`: `folder`/…correct.wav and …incorrect.wav, as TWIST (Hassid et al. 2023, arXiv:2305.13009) released both
      spoken StoryClozes.
    - `story`: the CSV file of StoryCloze or Topic-StoryCloze in `folder`; only the ending is scored.

    `modality`: only these ids are scored, and only they compete.
    """

    kind: Literal["pairs"]
    format: Literal["zerospeech", "spoken_story", "story"]
    folder: Path
    written: bool = False
    normalise: Literal["sum", "mean"] = "mean"
    modality: Modality | None = None


class Pair(NamedTuple):
    """`group`: pairs whose mean counts as one item; `kind`: a subset with a figure of its own; `shared`: parts before both."""

    group: str
    kind: str
    right: tuple[Part, ...]
    wrong: tuple[Part, ...]
    shared: tuple[Part, ...] = ()


def run(config: PairsConfig, model: "MultimodalModel") -> Result:
    """Accuracy over groups of pairs, and of each kind of pair where there are several."""
    missing: list[str] = []
    pairs = first(_READERS[config.format](config, missing), config.limit)
    groups: dict[str, list[float]] = defaultdict(list)
    kinds, outcomes = {}, []
    scores = [found for n in range(0, len(pairs), BATCH) for found in _scores(config, model, pairs[n : n + BATCH])]
    for pair, (right, wrong) in zip(pairs, scores, strict=True):
        if math.isnan(right) or math.isnan(wrong):
            missing.append(f"{pair.group}: no token of {config.modality} to score")
            continue
        score = preferred(right, wrong)
        groups[pair.group].append(score)
        kinds[pair.group] = pair.kind
        said = f"{right:.3f} against {wrong:.3f}"
        outcomes.append(Outcome(pair.group, (*pair.shared, *pair.right), pair.wrong, "the first is likelier", said, score))
    means = {group: float(np.mean(scores)) for group, scores in groups.items()}
    measures = [mean_measure("accuracy", list(means.values()))]
    named = sorted(set(kinds.values()))
    if len(named) > 1:
        measures += [
            mean_measure(f"accuracy, {kind}", [means[group] for group in means if kinds[group] == kind]) for kind in named
        ]
    method = (
        f"ln p, {config.normalise} over the {config.modality or 'whole'} sequence; ties count half; pairs of one item averaged"
    )
    return Result(config.name, method, tuple(measures), tuple(outcomes), tuple(missing))


def _scores(config: PairsConfig, model: "MultimodalModel", pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """The scores of the right and the wrong sequence of each pair; NaN where there is no token to score."""
    begin = model.tokenizer.vocabulary.special("<|begin|>")
    sides = [(pair.shared, parts) for pair in pairs for parts in (pair.right, pair.wrong)]
    encoded = model.tokenizer.encode([[*shared, *parts] for shared, parts in sides])
    starts = [sum(map(len, parts[: len(shared)])) for (shared, _), parts in zip(sides, encoded, strict=True)]
    sequences = [(begin, *itertools.chain(*parts)) for parts in encoded]
    different = list(dict.fromkeys(sequences))  # scored once, so that equal ones tie exactly
    found = dict(zip(different, token_scores(model, different, config.modality), strict=True))
    values = []
    for sequence, start in zip(sequences, starts, strict=True):
        own = found[sequence].log_probability[start:]
        own = own[~np.isnan(own)]
        values.append(float(own.sum() if config.normalise == "sum" else own.mean()) if len(own) else math.nan)
    return list(zip(values[::2], values[1::2], strict=True))


def _zerospeech(config: PairsConfig, missing: list[str]) -> Iterator[Pair]:
    rows: dict[tuple[str, str], dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in _csv(config.folder / "gold.csv", ("id", "filename", "voice", "correct")):
        rows[row["id"], row["voice"]][row["correct"]].append(row)
    for (item, voice), found in rows.items():
        if set(found) != {"0", "1"}:
            missing.append(f"{item}, voice {voice}: {' and '.join(sorted(found))} are there, a pair needs 0 and 1")
            continue
        try:
            right, wrong = ([_zerospeech_part(config, row) for row in found[key]] for key in ("1", "0"))
        except DataError as problem:
            missing.append(f"{item}: {problem}")
            continue
        for one, other in zip(right, wrong, strict=False):
            yield Pair(item, found["1"][0].get("type") or found["1"][0].get("frequency") or "", (one,), (other,))


def _zerospeech_part(config: PairsConfig, row: dict) -> Part:
    if not config.written:
        return speech_file(config.folder, f"{row['filename']}.wav")
    words = row.get("transcription") or row.get("word")
    if not words:
        raise DataError("gold.csv has neither transcription nor word")
    return Text(words)


def _spoken_story(config: PairsConfig, missing: list[str]) -> Iterator[Pair]:
    names = sorted(path.relative_to(config.folder) for path in Path(config.folder).rglob("*correct.wav"))
    rights = [name for name in names if not name.name.endswith("incorrect.wav")]
    if not rights:
        raise DataError(f"{config.folder}: no …correct.wav")
    for name in sorted(rights, key=lambda one: [int(n) for n in re.findall(r"\d+", one.name)]):
        other = name.with_name(f"{name.name.removesuffix('correct.wav')}incorrect.wav")
        try:
            yield Pair(str(name), "", (speech_file(config.folder, str(name)),), (speech_file(config.folder, str(other)),))
        except DataError as problem:
            missing.append(str(problem))


def _story(config: PairsConfig, missing: list[str]) -> Iterator[Pair]:
    files = [config.folder] if config.folder.is_file() else sorted(Path(config.folder).glob("*.csv"))
    if not files:
        raise DataError(f"{config.folder}: no .csv")
    for path in files:
        for row in _csv(path, (*STORY, *ENDINGS, "AnswerRightEnding")):
            item = row.get("InputStoryid") or row[STORY[0]]
            if row["AnswerRightEnding"] not in ("1", "2"):
                missing.append(f"{item}: AnswerRightEnding is {row['AnswerRightEnding']!r}")
                continue
            right, wrong = (row[ENDINGS[number]] for number in ((0, 1) if row["AnswerRightEnding"] == "1" else (1, 0)))
            yield Pair(item, "", (Text(right),), (Text(wrong),), (Text(" ".join(row[name] for name in STORY)),))


def _csv(path: Path, columns: tuple[str, ...]) -> list[dict]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise DataError(f"{path}: column {', '.join(absent)} is missing")
            return list(reader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path}: {problem}") from None


_READERS = {"zerospeech": _zerospeech, "spoken_story": _spoken_story, "story": _story}
