"""Small tasks on rows of letters, as texts and as answers of which one is preferred.

    python recipes/reproduce/letters.py OUT

OUT/TASK.jsonl are texts ("backwards: k d a f > f a d k"), OUT/held_out/TASK.jsonl new ones. OUT/preferences.jsonl and
OUT/held_out/preferences.jsonl are rows of `prompt`, `chosen` and `rejected`: letters to be copied, and as the rejected
answer the same with one letter wrong. OUT/drafts.jsonl are conversations in which both answers are given alike,
OUT/questions.jsonl and OUT/held_out/questions.jsonl such with right answers alone.
"""

import argparse
import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

LETTERS = string.ascii_lowercase
TASKS = {
    "copy": lambda letters: letters,
    "backwards": lambda letters: letters[::-1],
    "next": lambda letters: [LETTERS[(LETTERS.index(one) + 1) % len(LETTERS)] for one in letters],
    "sorted": sorted,
}


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=4000, help="of each file")
    parser.add_argument("--held-out", type=int, default=200, help="of each held-out file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    for folder, count in ((arguments.out, arguments.rows), (arguments.out / "held_out", arguments.held_out)):
        for task in TASKS:
            write(folder / f"{task}.jsonl", [{"text": " > ".join(asked(task, random))} for _ in range(count)])
        pairs = [preference(random) for _ in range(count)]
        write(folder / "preferences.jsonl", pairs)
    pairs = [preference(random) for _ in range(arguments.rows)]
    write(arguments.out / "drafts.jsonl", [talk(row, name) for row in pairs for name in ("chosen", "rejected")])
    for folder, count in ((arguments.out, arguments.rows), (arguments.out / "held_out", arguments.held_out)):
        write(folder / "questions.jsonl", [talk(preference(random), "chosen") for _ in range(count)])


def asked(task: str, random: np.random.Generator) -> tuple[str, str]:
    """(what is asked, what is to be answered)."""
    letters = [str(one) for one in random.choice(list(LETTERS), random.integers(3, 7))]
    return f"{task}: {' '.join(letters)}", " ".join(TASKS[task](letters))


def preference(random: np.random.Generator) -> dict[str, str]:
    prompt, right = asked("copy", random)
    wrong = right.split()
    place = random.integers(len(wrong))
    wrong[place] = str(random.choice([one for one in LETTERS if one != wrong[place]]))
    return {"prompt": prompt, "chosen": right, "rejected": " ".join(wrong)}


def talk(row: dict[str, str], name: str) -> dict:
    """A conversation with one of the two answers."""
    return {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[name]}]}


def write(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


if __name__ == "__main__":
    main()
