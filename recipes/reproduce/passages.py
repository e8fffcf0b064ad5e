"""Passages of textbooks for the study of selection: python recipes/reproduce/passages.py BOOKS OUT [--subject astronomy]

BOOKS holds a folder of OpenStax's CNXML for each subject. Of every four modules of the wanted subject one goes to OUT/target, one
to OUT/held_out and two, with all of the other subjects, to OUT/pool, each cut into passages of whole paragraphs.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.document import Document, Text
from mmpt.errors import DataError
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

PLACES = ("target", "pool", "held_out", "pool")


def passages(text: str, characters: int) -> Iterator[str]:
    """Whole paragraphs, so many that each passage but the last has at least `characters`."""
    passage = ""
    for paragraph in text.split("\n\n"):
        passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        if len(passage) >= characters:
            yield passage
            passage = ""
    if passage.strip():
        yield passage


def texts(folder: Path) -> Iterator[str]:
    """The running text of each module of a book."""
    config = parse_config({"sources": [{"kind": "openstax", "folder": str(folder)}]}, BuildConfig, str(folder))
    for one in documents(config):
        if isinstance(one, Document):
            yield "\n\n".join(part.text.strip() for part in one.parts if isinstance(part, Text))


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subject", default="astronomy", help="which one is wanted")
    parser.add_argument("--characters", type=int, default=1000, help="of a passage, at least")
    arguments = parser.parse_args()
    subjects = sorted(path.name for path in arguments.books.iterdir() if path.is_dir()) if arguments.books.is_dir() else []
    if arguments.subject not in subjects or len(subjects) < 2:
        raise DataError(f"{arguments.books}: expected a folder {arguments.subject} and others beside it, found {subjects}")
    rows: dict[str, list[dict]] = {place: [] for place in PLACES}
    for subject in subjects:
        for number, text in enumerate(texts(arguments.books / subject)):
            place = PLACES[number % len(PLACES)] if subject == arguments.subject else "pool"
            rows[place] += [{"text": one, "subject": subject} for one in passages(text, arguments.characters)]
    for place, found in rows.items():
        (arguments.out / place).mkdir(parents=True, exist_ok=True)
        write_bytes(arguments.out / place / "text.jsonl", "".join(f"{json.dumps(row)}\n" for row in found).encode())


if __name__ == "__main__":
    main()
