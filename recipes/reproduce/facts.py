"""A small world in words: facts about things, written and spoken, in the layouts of public corpora.

    python recipes/reproduce/facts.py OUT

Each thing ("the heavy lamp") has a colour and a place. Things are of three groups:

- `heard`: their facts are in recordings, in texts, and in the texts that are for interleaving;
- `read`: in texts, and in those for interleaving, but in no recording;
- `unspoken`: in plain texts alone.

Recordings are of facts by half; the others are phrases in no order, with every word. OUT/text and OUT/mixed are JSON lines of
documents (the latter for interleaving), OUT/speech is in LJSpeech's layout, spoken by espeak-ng, OUT/questions/GROUP.jsonl are
spoken questions with their answers, OUT/pairs/GROUP holds each with the right and with a wrong answer in one utterance, in the
layout of the spoken StoryClozes. OUT/held_out has new texts on the same facts, and recordings of other phrases.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr

from mmpt.data.synthetic.espeak import Speaker
from mmpt.media import encode_wav
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

KINDS = ("old", "tiny", "heavy", "broken", "wooden", "silent")
THINGS = ("lamp", "table", "boat", "piano", "basket", "mirror", "carpet", "hammer")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "brown", "white")
PLACES = ("garden", "kitchen", "cellar", "harbour", "library", "stable", "market", "forest")
GROUPS = {"heard": 16, "read": 24, "unspoken": 8}
VOICES = ("en-us", "en-us+f3")
SAMPLE_RATE = 16_000
THINGS_A_DOCUMENT, FACTS_A_DOCUMENT = 2, 8


def world(random: np.random.Generator) -> dict[str, list[dict]]:
    """The things of each group, with a `colour` and a `place` drawn at random."""
    names = random.permutation([f"{kind} {thing}" for kind in KINDS for thing in THINGS])
    things = iter(
        {"name": str(name), "colour": str(random.choice(COLOURS)), "place": str(random.choice(PLACES))} for name in names
    )
    return {group: [next(things) for _ in range(count)] for group, count in GROUPS.items()}


def sentence(thing: dict, what: str, asked: bool) -> str:
    """A fact, as question and answer or as a statement."""
    if asked:
        return f"{question(thing, what)} {answer(thing, what)}"
    return f"the {thing['name']} is {answer(thing, what)}"


def question(thing: dict, what: str) -> str:
    return f"what colour is the {thing['name']}?" if what == "colour" else f"where is the {thing['name']}?"


def answer(thing: dict, what: str) -> str:
    return f"{thing['colour']}." if what == "colour" else f"in the {thing['place']}."


def documents(things: Sequence[dict], count: int, random: np.random.Generator) -> list[str]:
    """Texts on `THINGS_A_DOCUMENT` things each, which come back to them as texts do."""
    found = []
    for _ in range(count):
        chosen = random.choice(len(things), THINGS_A_DOCUMENT, replace=False)
        found.append(" ".join(fact(things[random.choice(chosen)], random) for _ in range(FACTS_A_DOCUMENT)))
    return found


def fact(thing: dict, random: np.random.Generator) -> str:
    return sentence(thing, ("colour", "place")[random.integers(2)], asked=bool(random.integers(2)))


def phrases(count: int, random: np.random.Generator) -> list[str]:
    """Pieces of sentences in no order, as speech of other content."""

    def piece() -> str:
        thing = f"the {random.choice(KINDS)} {random.choice(THINGS)}"
        return str(
            random.choice([thing, random.choice(COLOURS), f"in the {random.choice(PLACES)}", "where is", "what colour is"])
        )

    return [" ".join(piece() for _ in range(random.integers(1, 5))) for _ in range(count)]


def say(speaker: Speaker, text: str, voice: str) -> bytes:
    """A WAV file."""
    utterance = speaker.speak(text, voice)
    return encode_wav(soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE), SAMPLE_RATE)


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=int, default=3000, help="documents in text, and in mixed")
    parser.add_argument("--utterances", type=int, default=3600)
    parser.add_argument("--held-out", type=int, default=200, help="documents, and recordings, for measuring alone")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, random = arguments.out, np.random.default_rng(arguments.seed)
    groups = world(random)
    everything = [thing for things in groups.values() for thing in things]
    write_texts(out / "text" / "text.jsonl", documents(everything, arguments.texts, random))
    mixed = [*groups["heard"], *groups["read"]]
    write_texts(out / "mixed" / "mixed.jsonl", documents(mixed, arguments.texts, random))
    told = [fact(groups["heard"][random.integers(GROUPS["heard"])], random) for _ in range(arguments.utterances // 2)]
    others = phrases(arguments.utterances - len(told), random)
    write_speech(out / "speech", [str(text) for text in random.permutation([*told, *others])])
    write_texts(out / "held_out" / "text" / "text.jsonl", documents(everything, arguments.held_out, random))
    write_speech(out / "held_out" / "speech", phrases(arguments.held_out, random))
    for group, things in groups.items():
        write_questions(out / "questions", group, things)
        write_pairs(out / "pairs" / group, things, random)


def write_texts(path: Path, texts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(f"{json.dumps({'text': text})}\n" for text in texts).encode())


def write_speech(folder: Path, texts: Sequence[str]) -> None:
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    with Speaker() as speaker:
        for number, text in enumerate(texts):
            write_bytes(folder / "wavs" / f"{number:05d}.wav", say(speaker, text, VOICES[number % len(VOICES)]))
    write_bytes(folder / "metadata.csv", "".join(f"{n:05d}|{text}|{text}\n" for n, text in enumerate(texts)).encode())


def write_questions(folder: Path, group: str, things: Sequence[dict]) -> None:
    (folder / group).mkdir(parents=True, exist_ok=True)
    rows = []
    with Speaker() as speaker:
        for number, (thing, what) in enumerate((thing, what) for thing in things for what in ("colour", "place")):
            name = f"{group}/{number:03d}.wav"
            write_bytes(folder / name, say(speaker, question(thing, what), VOICES[number % len(VOICES)]))
            rows.append({"id": name[:-4], "question": question(thing, what), "audio": name, "answers": [thing[what]]})
    write_bytes(folder / f"{group}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())


def write_pairs(folder: Path, things: Sequence[dict], random: np.random.Generator) -> None:
    """NUMBER_correct.wav and NUMBER_incorrect.wav: a question and its answer, and another colour or place."""
    folder.mkdir(parents=True, exist_ok=True)
    choices = {"colour": COLOURS, "place": PLACES}
    with Speaker() as speaker:
        for number, (thing, what) in enumerate((thing, what) for thing in things for what in choices):
            wrong = str(random.choice([other for other in choices[what] if other != thing[what]]))
            for name, one in (("correct", thing), ("incorrect", {**thing, what: wrong})):
                text = sentence(one, what, asked=True)
                write_bytes(folder / f"{number:03d}_{name}.wav", say(speaker, text, VOICES[number % len(VOICES)]))


if __name__ == "__main__":
    main()
