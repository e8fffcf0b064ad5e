"""Markdown and HTML pages against another renderer and another parser: is every picture there, in place, or listed?

    python datasets/benches/pages.py [../shared/data/guides]

The reference is html5lib, and cmark-gfm for Markdown; the sources use neither. The pages: tutorials as they lie, written ones
with the right reading beside each, random nestings with fixed seeds (words such as w12 stand between their pictures, so that one
in the wrong place shows), and pieces of markup in any order. Writes datasets/results/pages.json.
"""

import re
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
from page_cases.random_pages import PICTURES, Page, soup
from page_cases.reference import rendered, shown
from page_cases.written import CASES, FILES, Case
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.sources import Source
from mmpt.data.unit import Unit
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

RANDOM, SOUPS = 300, 1000  # of each kind
ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "pages.json"


@main_guard
def main() -> None:
    guides = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "guides")
    if not guides.is_dir():
        raise ConfigError(f"{guides}: no such folder")
    count: Counter = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        of_guides(guides, count)
        of_cases(folder / "cases", count)
        of_random_pages(folder / "random", count)
        of_soups(folder / "soups", count)
    figures = [
        Figure("pages", count["pages"]),
        Figure("pictures a browser shows, there", count["there"]),
        Figure("share in place and in order", count["placed"] / count["there"], 1.0),
        Figure("pictures that cannot be had", count["away"]),
        Figure("unlisted pictures", count["unlisted"], 0, at_most=True),
        Figure("written cases", len(CASES)),
        Figure("written cases read wrongly", count["wrong"], 0, at_most=True),
        Figure("tracebacks", count["tracebacks"], 0, at_most=True),
    ]
    sys.exit(0 if report(figures, RESULT, ["markdown-it-py", "selectolax", "html5lib", "cmarkgfm"]) else 1)


def of_guides(guides: Path, count: Counter) -> None:
    """Tutorials as they are. The Markdown between their HTML tags is read too, which CommonMark does not do."""
    for found in read("markdown", guides, count):
        page = guides / PurePosixPath(found.id.partition("/")[2])
        text = re.sub(r"</?div[^>]*>", "", page.read_text(encoding="utf-8"))
        compare(found, shown(rendered(text)), page.parent, count)


def of_cases(folder: Path, count: Counter) -> None:
    for number, case in enumerate(CASES):
        place = folder / str(number)
        for name, color in FILES.items():
            write(place / name, png(color))
        suffix = "md" if case.kind == "markdown" else "html"
        write(place / f"page.{suffix}", case.text.encode())
        problems = [problem for found in read(case.kind, place, count) for problem in wrong(found, case)]
        for problem in problems:
            print(f"{case.name}: {problem}")
        count["wrong"] += bool(problems)


def of_random_pages(folder: Path, count: Counter) -> None:
    for number in range(PICTURES):
        write(folder / "img" / f"p{number}.png", png((number * 9, 255 - number, number % 7 * 30)))
    texts = {}
    for seed in range(RANDOM):
        texts[f"{seed}.md"] = Page(seed).markdown()
        texts[f"{seed}.html"] = "\n".join(Page(seed).some(Page(seed + RANDOM).html, 4))
    for name, text in texts.items():
        write(folder / name, text.encode())
    for kind in ("markdown", "html"):
        for found in read(kind, folder, count, name="random"):
            name = found.id.partition("/")[2]
            page = texts[name] if kind == "html" else rendered(texts[name])
            compare(found, shown(page), folder, count)


def of_soups(folder: Path, count: Counter) -> None:
    """Only that each is read, or lost with a reason."""
    write(folder / "img" / "p0.png", png((9, 9, 9)))
    for seed in range(SOUPS):
        for suffix in ("md", "html"):
            write(folder / f"{seed}.{suffix}", soup(seed).encode())
    for kind in ("markdown", "html"):
        for _ in read(kind, folder, count):
            pass


class Read:
    """A page as the source reads it."""

    def __init__(self, document_id: str) -> None:
        self.id = document_id
        self.parts: tuple = ()
        self.lost: list[Lost] = []

    def sequence(self) -> list[str | bytes]:
        """Words such as w12 and the pictures' bytes."""
        found: list[str | bytes] = []
        for part in self.parts:
            found += re.findall(r"(?<![a-z\d])w\d+(?!\d)", part.text) if isinstance(part, Text) else [part.data]
        return found


def read(kind: str, folder: Path, count: Counter, **settings) -> list[Read]:
    """Every page of a folder, each file a unit of its own, so that a traceback costs one."""
    config = Source.member(kind)(folder=str(folder), **settings)
    pages: dict[str, Read] = {}
    for unit in config.units():
        for name in unit.what:
            count["pages"] += 1
            try:
                for one in config.read(Unit([name], 0)):
                    document_id = one.id if isinstance(one, Document) else one.document
                    page = pages.setdefault(document_id, Read(document_id))
                    if isinstance(one, Document):
                        page.parts = one.parts
                    else:
                        page.lost.append(one)
            except Exception:
                count["tracebacks"] += 1
                traceback.print_exc()
    return list(pages.values())


def compare(page: Read, expected: list[str], folder: Path, count: Counter) -> None:
    """Count the pictures among what a browser shows that are there, in place, and listed."""
    sequence, missing = [], []
    for item in expected:
        file = folder / unquote(item)
        if re.fullmatch(r"w\d+", item):
            sequence.append(item)
        elif item[:4] != "http" and file.is_file():
            sequence.append(file.read_bytes())
        else:
            missing.append(item)
    pictures = [item for item in sequence if isinstance(item, bytes)]
    found = page.sequence()
    lacking = Counter(pictures) - Counter(item for item in found if isinstance(item, bytes))
    unlisted = Counter(missing) - Counter(one.item.rpartition(": ")[2] for one in page.lost)
    count["there"] += len(pictures)
    count["placed"] += len(pictures) if found == sequence else 0
    count["away"] += len(missing)
    count["unlisted"] += lacking.total() + unlisted.total()
    if found != sequence or unlisted:
        show = [item if isinstance(item, str) else "PICTURE" for item in found]
        print(f"{page.id}: expected {expected}\n  found {show}\n  listed {[one.item for one in page.lost]}")


def wrong(page: Read, case: Case) -> list[str]:
    """What is wrong with the reading of a written case."""
    names = {png(color): name for name, color in FILES.items()}
    pictures = [names.get(part.data, "?") for part in page.parts if isinstance(part, Image)]
    text = "\n".join(part.text for part in page.parts if isinstance(part, Text))
    problems = [] if pictures == [*case.shows] else [f"shows {pictures}, expected {[*case.shows]}"]
    problems += [f"says {text!r}, expected {one!r} in it" for one in case.says if one not in text]
    listed = [one.item.rpartition(": ")[2] for one in page.lost if not one.whole]
    return problems if listed == [*case.lists] else [*problems, f"lists {listed}, expected {[*case.lists]}"]


def png(color: tuple[int, int, int]) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), color, dtype=np.uint8)))


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main()
