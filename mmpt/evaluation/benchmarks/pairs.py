"""Which of two sequences a model finds likelier."""

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
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._items import first, speech_file
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.metrics.likelihood import preferred, token_scores
from mmpt.modality import Modality

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

BATCH = 32
"""Pairs whose sounds are encoded together."""
STORY = ("InputSentence1", "InputSentence2", "InputSentence3", "InputSentence4")
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")


class Pair(NamedTuple):
    """`group`: pairs whose mean counts as one item; `kind`: a subset with a figure of its own; `shared`: parts before both."""

    group: str
    kind: str
    right: tuple[Part, ...]
    wrong: tuple[Part, ...]
    shared: tuple[Part, ...] = ()


class Pairs(Benchmark):
    """Which of two sequences a model finds likelier, spoken and written: sWUGGY and sBLIMP (ZeroSpeech 2021, Nguyen et al. 2020,
    arXiv:2011.11588), StoryCloze and Topic-StoryCloze (Hassid et al. 2023, arXiv:2305.13009). The right one must have the larger
    score, equal scores count half; the score is ln p of the sequence after `<|begin|>`."""

    format: Literal["zerospeech", "spoken_story", "story"]
    """`zerospeech`: `folder`/gold.csv beside FILENAME.wav, as the challenge gives sWUGGY and sBLIMP; `spoken_story`:
    `folder`/…correct.wav and …incorrect.wav, as TWIST released both spoken StoryClozes; `story`: the CSV file of StoryCloze or
    Topic-StoryCloze in `folder`, of which only the ending is scored."""
    folder: Path
    """Where the files are."""
    written: bool = False
    """Of `zerospeech` the words of gold.csv instead of the sound."""
    normalise: Literal["sum", "mean"] = "mean"
    """ln p summed over the sequence, or divided by its tokens."""
    modality: Modality | None = None
    """Only these ids are scored, and only they compete; by default all."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: accuracy over groups of pairs, and of each kind of pair where there are several."""
        missing: list[str] = []
        pairs = first(self._pairs(missing), self.limit)
        groups: dict[str, list[float]] = defaultdict(list)
        kinds, outcomes = {}, []
        scores = [found for n in range(0, len(pairs), BATCH) for found in self._scores(model, pairs[n : n + BATCH])]
        for pair, (right, wrong) in zip(pairs, scores, strict=True):
            if math.isnan(right) or math.isnan(wrong):
                missing.append(f"{pair.group}: no token of {self.modality} to score")
                continue
            score = preferred(right, wrong)
            groups[pair.group].append(score)
            kinds[pair.group] = pair.kind
            said = f"{right:.3f} against {wrong:.3f}"
            outcomes.append(Outcome(pair.group, (*pair.shared, *pair.right), pair.wrong, "the first is likelier", said, score))
        # The pairs of one item, in several voices, are one measurement: averaged before anything is resampled.
        means = {group: float(np.mean(scores)) for group, scores in groups.items()}
        measures = [mean_measure("accuracy", list(means.values()))]
        named = sorted(set(kinds.values()))
        if len(named) > 1:
            measures += [
                mean_measure(f"accuracy, {kind}", [means[group] for group in means if kinds[group] == kind]) for kind in named
            ]
        method = (
            f"ln p, {self.normalise} over the {self.modality or 'whole'} sequence; ties count half; pairs of one item averaged"
        )
        return Result(self.name, method, tuple(measures), tuple(outcomes), tuple(missing))

    def _scores(self, model: "MultimodalModel", pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The scores of the right and the wrong sequence of each pair; NaN where there is no token to score."""
        vocabulary = model.tokenizer.vocabulary
        begin = vocabulary.special("<|begin|>")
        sides = [(pair.shared, parts) for pair in pairs for parts in (pair.right, pair.wrong)]
        encoded = model.tokenizer.encode([[*shared, *parts] for shared, parts in sides])
        starts = [sum(map(len, parts[: len(shared)])) for (shared, _), parts in zip(sides, encoded, strict=True)]
        sequences = [(begin, *itertools.chain(*parts)) for parts in encoded]
        different = list(dict.fromkeys(sequences))  # scored once, so that equal ones tie exactly
        found = dict(zip(different, token_scores(model.model, vocabulary, different, self.modality), strict=True))
        values = []
        for sequence, start in zip(sequences, starts, strict=True):
            own = found[sequence].log_probability[start:]
            own = own[~np.isnan(own)]
            values.append(float(own.sum() if self.normalise == "sum" else own.mean()) if len(own) else math.nan)
        return list(zip(values[::2], values[1::2], strict=True))

    def _pairs(self, missing: list[str]) -> Iterator[Pair]:
        if self.format == "zerospeech":
            return self._zerospeech(missing)
        return self._spoken_story(missing) if self.format == "spoken_story" else self._story(missing)

    def _zerospeech(self, missing: list[str]) -> Iterator[Pair]:
        rows: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
        for row in _csv(self.folder / "gold.csv", ("id", "filename", "voice", "correct")):
            rows[row["id"], row["voice"]][row["correct"]].append(row)
        for (item, voice), found in rows.items():
            if set(found) != {"0", "1"}:
                missing.append(f"{item}, voice {voice}: {' and '.join(sorted(found))} are there, a pair needs 0 and 1")
                continue
            try:
                right, wrong = ([self._zerospeech_part(row) for row in found[key]] for key in ("1", "0"))
            except DataError as problem:
                missing.append(f"{item}: {problem}")
                continue
            for one, other in zip(right, wrong, strict=False):
                yield Pair(item, found["1"][0].get("type") or found["1"][0].get("frequency") or "", (one,), (other,))

    def _zerospeech_part(self, row: dict[str, str]) -> Part:
        if not self.written:
            return speech_file(self.folder, f"{row['filename']}.wav")
        words = row.get("transcription") or row.get("word")
        if not words:
            raise DataError("gold.csv has neither transcription nor word")
        return Text(words)

    def _spoken_story(self, missing: list[str]) -> Iterator[Pair]:
        names = sorted(path.relative_to(self.folder) for path in self.folder.rglob("*correct.wav"))
        rights = [name for name in names if not name.name.endswith("incorrect.wav")]
        if not rights:
            raise DataError(f"{self.folder}: no …correct.wav")
        # By the numbers in their names, as people count: 2 before 10.
        for name in sorted(rights, key=lambda one: [int(n) for n in re.findall(r"\d+", one.name)]):
            other = name.with_name(f"{name.name.removesuffix('correct.wav')}incorrect.wav")
            try:
                right, wrong = (speech_file(self.folder, str(one)) for one in (name, other))
                yield Pair(str(name), "", (right,), (wrong,))
            except DataError as problem:
                missing.append(str(problem))

    def _story(self, missing: list[str]) -> Iterator[Pair]:
        files = [self.folder] if self.folder.is_file() else sorted(self.folder.glob("*.csv"))
        if not files:
            raise DataError(f"{self.folder}: no .csv")
        for path in files:
            for row in _csv(path, (*STORY, *ENDINGS, "AnswerRightEnding")):
                item = row.get("InputStoryid") or row[STORY[0]]
                if row["AnswerRightEnding"] not in ("1", "2"):
                    missing.append(f"{item}: AnswerRightEnding is {row['AnswerRightEnding']!r}")
                    continue
                right, wrong = (row[ENDINGS[number]] for number in ((0, 1) if row["AnswerRightEnding"] == "1" else (1, 0)))
                yield Pair(item, "", (Text(right),), (Text(wrong),), (Text(" ".join(row[name] for name in STORY)),))


def _csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
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
