"""Short questions and sentences of a small world, as tables to be read aloud, and held-out questions that are.

    python recipes/spoken_questions.py OUT

Questions are of two kinds. Of numbers (sums, differences, which is more): one in five is held out in every wording, so what is
asked in the test was never heard. Of facts (opposites, colours, capitals, days): one of three wordings is held out, another one
for each fact. `sentences.jsonl` are questions and statements, and to learn from also words of them in no order: with those one
has to listen. OUT/train has rows to be read aloud by
datasets/build.py; OUT/test the held-out ones, questions.jsonl with recordings in voices that are not those of the training.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
NUMBERS += ["fourteen", "fifteen", "sixteen", "seventeen", "eighteen"]
OPPOSITES = {"hot": "cold", "big": "small", "day": "night", "up": "down", "open": "closed", "old": "new", "black": "white"}
COLOURS = {"grass": "green", "snow": "white", "blood": "red", "the sky": "blue", "coal": "black", "a lemon": "yellow"}
CAPITALS = {"france": "paris", "england": "london", "italy": "rome", "spain": "madrid", "japan": "tokyo", "russia": "moscow"}
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
FACTS = {
    "opposite": ({**OPPOSITES, **{b: a for a, b in OPPOSITES.items()}}, "the opposite of {}"),
    "colour": (COLOURS, "the colour of {}"),
    "capital": (CAPITALS, "the capital of {}"),
    "day": (dict(zip(DAYS, [*DAYS[1:], DAYS[0]], strict=True)), "the day after {}"),
}
WORDINGS = ("what is {}?", "tell me {}", "do you know {}?")
HELD_OUT_VOICES = ("en-us+m7", "en-gb-x-rp+f4", "en-us+linda", "en-us+Mario")
HELD_OUT = 5
"""One question of numbers in so many is held out."""


class Question(NamedTuple):
    """A `question`, its `answer`, its `kind`, and the `statement` of both: "" of what is not so."""

    question: str
    answer: str
    kind: str
    statement: str


def questions() -> tuple[list[Question], list[Question]]:
    """(to be learned from, held out)."""
    sides: tuple[list[Question], list[Question]] = ([], [])
    random = np.random.default_rng(1)  # by which every word of the test is heard in training
    for forms in _of_numbers():
        sides[int(random.integers(HELD_OUT)) == 0].extend(forms)
    for kind, (facts, what) in FACTS.items():
        for number, (thing, answer) in enumerate(facts.items()):
            said = what.format(thing)
            for wording, form in enumerate(WORDINGS):
                sides[wording == number % len(WORDINGS)].append(Question(form.format(said), answer, kind, f"{said} is {answer}"))
    return sides


def _of_numbers() -> Iterator[list[Question]]:
    """Those of the same two numbers that give each other away."""
    for a in range(10):
        for b in range(a + 1):
            both = ((a, b), (b, a)) if a != b else ((a, b),)
            yield [_computed(f"{NUMBERS[x]} plus {NUMBERS[y]}", NUMBERS[a + b], "sum") for x, y in both]
            yield [_computed(f"{NUMBERS[a]} minus {NUMBERS[b]}", NUMBERS[a - b], "difference")]
            if a != b:
                yield [_compared(x, y, word) for x, y in both for word in ("more", "less")]


def _computed(what: str, answer: str, kind: str) -> Question:
    return Question(f"what is {what}?", answer, kind, f"{what} is {answer}")


def _compared(x: int, y: int, word: str) -> Question:
    so = (x > y) == (word == "more")
    statement = f"{NUMBERS[x]} is {word} than {NUMBERS[y]}" if so else ""
    return Question(f"is {NUMBERS[x]} {word} than {NUMBERS[y]}?", "yes" if so else "no", "more", statement)


def words(chosen: Sequence[Question]) -> list[str]:
    """Every word of the questions and answers, once."""
    return sorted({word for one in chosen for word in f"{one.question} {one.answer}".replace("?", "").split()})


def phrases(known: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """`count` strings of three to six words in no order."""
    return [" ".join(random.choice(known, random.integers(3, 7))) for _ in range(count)]


def drawn(chosen: Sequence[Question], count: int, random: np.random.Generator) -> list[Question]:
    """`count` questions, each kind as often as any other."""
    kinds = sorted({one.kind for one in chosen})
    of_kind = {kind: [one for one in chosen if one.kind == kind] for kind in kinds}
    found = [of_kind[kinds[number % len(kinds)]] for number in range(count)]
    return [one[int(random.integers(len(one)))] for one in found]


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", type=int, default=1000, help="rows to learn from")
    parser.add_argument(
        "--sentences", type=int, default=1000, help="rows to learn from: half of them questions, a quarter statements"
    )
    parser.add_argument("--held-out", type=int, default=140, help="questions, and sentences, of the test")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    learned, held_out = questions()
    known = words(learned)
    heard = {one.statement for one in learned}
    stated = [one for one in learned if one.statement], [one for one in held_out if one.statement and one.statement not in heard]
    for side, chosen, states, count, sentences in (
        ("train", learned, stated[0], arguments.questions, arguments.sentences),
        ("test", held_out, stated[1], arguments.held_out, arguments.held_out),
    ):
        asked = drawn(chosen, count, random)
        read = [one.question for one in drawn(chosen, sentences // 2, random)]
        read += [one.statement for one in drawn(states, sentences // 4 if side == "train" else sentences - len(read), random)]
        read += phrases(known, sentences - len(read), random)
        write_rows(arguments.out / side / "sentences.jsonl", [{"sentence": str(one)} for one in random.permutation(read)])
        rows = [{"question": one.question, "answer": one.answer, "kind": one.kind} for one in asked]
        if side == "test":
            write_recordings(arguments.out / side, rows)
        write_rows(arguments.out / side / "questions.jsonl", rows)


def write_recordings(folder: Path, rows: list[dict]) -> None:
    """Each question read aloud; its row gets the name of the file as `audio`."""
    with Speaker() as speaker:
        for number, row in enumerate(rows):
            spoken = read_aloud(speaker, row["question"], HELD_OUT_VOICES[number % len(HELD_OUT_VOICES)], 180)
            row["audio"] = f"audio/{number:04d}.flac"
            (folder / "audio").mkdir(parents=True, exist_ok=True)
            write_bytes(folder / row["audio"], spoken.data)


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
