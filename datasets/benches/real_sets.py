"""Real sets through all tools, as commands one after the other, and what they hold counted by other libraries.

    python datasets/benches/real_sets.py [../shared/data [SET ...]]

Two textbooks (lxml), tutorials (cmark-gfm, html5lib), Common Voice (csv, FFmpeg's decoder) and LibriSpeech (its transcripts, the
headers of its FLAC files) go through build, lint, stats, view, card, score, select, dedup (of documents, and of pictures by their
embeddings) and to_tokens. Sets are read back by Python's tarfile, token sets by numpy and tokenizers. Writes
datasets/results/real_sets.json, in which figures of sets not named stay; exits with 1 where a count is off.
"""

import csv
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import av
import cmarkgfm
import html5lib
from all_tools.chain import through
from all_tools.sets import Held, bytes_of, held, lost, records, tool, words, write
from cmarkgfm.cmark import Options
from lxml import etree
from textbooks import reading

from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "real_sets.json"
SHOWN = 20
NO_WORDS = re.compile(r"!\[[^\]]*\]\([^)]*\)|\{:[^}]*\}|</?(?:div|iframe|a|p|br|span|img|kbd)\b[^>]*>")
"""What of a tutorial's Markdown is no word of its text: pictures, attributes as kramdown has them, tags."""


def textbooks(folder: Path) -> Held:
    found = Held()
    for path in sorted(folder.rglob("index.cnxml")):
        seen = reading(path)
        there = [(path.parent / target).is_file() for target, _ in seen.pictures]
        found.documents += 1
        found.words += len(seen.words)
        found.pictures += sum(there)
        found.missing += len(there) - sum(there)
    return found


def figures_of(folder: Path) -> tuple[int, Counter[bytes]]:
    """(Figures of all modules, the pictures that stand in them and are there)."""
    count, pictures = 0, Counter()
    for path in sorted(folder.rglob("index.cnxml")):
        root = etree.parse(str(path))
        figures = root.xpath("//*[local-name()='figure'][not(parent::*[local-name()='figure'])]")
        count += len(figures)
        for figure in figures:
            for image in figure.xpath(".//*[local-name()='image']/@src"):
                if (path.parent / image).is_file():
                    pictures[(path.parent / image).read_bytes()] += 1
    return count, pictures


def guides(folder: Path) -> Held:
    found = Held()
    for path in sorted(folder.rglob("step_*.md")):
        text = "\n".join(line for line in path.read_text().splitlines() if not re.fullmatch("--- /?[a-z-]+ ---", line.strip()))
        page = cmarkgfm.github_flavored_markdown_to_html(re.sub("</?div[^>]*>", "", text), options=Options.CMARK_OPT_UNSAFE)
        pictures = html5lib.parse(page, namespaceHTMLElements=False).iter("img")
        there = [(path.parent / unquote(picture.get("src"))).is_file() for picture in pictures]
        found.documents += 1
        found.words += len(words(NO_WORDS.sub(" ", text)))
        found.pictures += sum(there)
        found.missing += len(there) - sum(there)
    return found


def common_voice(folder: Path) -> Held:
    with open(folder / "clips.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = Held(len(rows), words=sum(len(words(row["sentence"])) for row in rows))
    for row in rows:
        with av.open(str(folder / "clips" / row["path"])) as sound:
            found.seconds += sum(frame.samples / frame.sample_rate for frame in sound.decode(audio=0))
    return found


def librispeech(folder: Path) -> Held:
    lines = [line for path in folder.rglob("*.trans.txt") for line in path.read_text().splitlines() if line]
    found = Held(len(lines), words=sum(len(words(line.partition(" ")[2])) for line in lines))
    for path in folder.rglob("*.flac"):
        with open(path, "rb") as file:
            info = int.from_bytes(file.read(8 + 18)[18:26], "big")  # STREAMINFO: rate 20 bits, 8 bits, samples 36 bits
        found.seconds += (info & (1 << 36) - 1) / (info >> 44)
    return found


SETS: dict[str, tuple[str, Callable[[Path], Held], dict]] = {
    "textbooks": ("textbooks", textbooks, {"kind": "openstax"}),
    "guides": ("guides", guides, {"kind": "markdown", "files": r".*/step_\d+\.md", "drop_lines": ["--- /?[a-z-]+ ---"],
                                  "license": "CC-BY-SA-4.0"}),
    "common voice": ("common_voice", common_voice, {"kind": "common_voice", "table": "clips.tsv", "language": "en"}),
    "librispeech": ("librispeech/LibriSpeech", librispeech, {"kind": "librispeech"}),
}  # fmt: skip
"""Name → folder, what counts it, and its source."""


@main_guard
def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "data").resolve()
    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder")
    named = sys.argv[2:] or [*SETS]
    if unknown := set(named) - SETS.keys():
        raise ConfigError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(SETS)}")
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in named:
            place, count, source = SETS[name]
            folder = Path(temporary) / place.partition("/")[0]
            folder.mkdir()
            figures += of_set(name, data / place, count(data / place), source, folder)
    figures += kept(set(SETS) - set(named))
    figures.sort(key=lambda one: [*SETS].index(one.name.partition(": ")[0]))
    sys.exit(0 if report(figures, RESULT, ["lxml", "cmarkgfm", "html5lib", "av", "tokenizers"]) else 1)


def kept(names: set[str]) -> list[Figure]:
    """Figures of sets that are not measured now."""
    rows = json.loads(RESULT.read_text())["figures"] if names and RESULT.exists() else []
    found = [Figure(row["name"], row["value"], row["bar"], row["at_most"]) for row in rows]
    return [one for one in found if one.name.partition(": ")[0] in names]


def of_set(name: str, data: Path, wanted: Held, source: dict, folder: Path) -> list[Figure]:
    """Every tool on one set; each line that is printed says what is off."""
    spec = {"sources": [{**source, "folder": str(data), "name": name.replace(" ", "_")}]}
    tool(folder, "build.py", write(folder, "build.yaml", spec), "raw")
    documents = records(folder / "raw")
    raw = held(documents)
    listed = sum(one["part"] == "image" for one in lost(folder / "raw"))
    unlisted = abs(listed - wanted.missing)
    linted = tool(folder, "lint.py", "raw").count("\n") - 1
    off = Counter()
    stats = tool(folder, "stats.py", "raw", "--page", "stats.html")
    off["stats"] = not re.search(rf"documents\s+│ {raw.documents:,} ", stats) or not re.search(
        rf"pictures\s+│ {raw.pictures:,},", stats
    )
    tool(folder, "view.py", "raw", "page.html", "--documents", str(SHOWN))
    first, page = held(documents[:SHOWN]), (folder / "page.html").read_text()
    shown = (page.count("<section"), page.count("<img"), page.count("<audio"))
    off["view"] = shown != (1 + min(SHOWN, raw.documents), first.pictures, first.documents if raw.seconds else 0)
    card = tool(folder, "card.py", "raw")
    off["card"] = f"| {raw.documents:,} | " not in card or f" | {raw.pictures:,} | {raw.seconds / 3600:,.3f} |" not in card
    after, found = through(folder, documents)
    off += found
    print(name, wanted, raw, dict(off), f"listed {listed}")
    figures = [Figure(f"{name}: {what}", getattr(raw, what)) for what in ("documents", "pictures", "words")]
    figures.append(Figure(f"{name}: hours", raw.seconds / 3600))
    figures += [
        Figure(f"{name}: {what} off", abs(getattr(raw, what) - getattr(wanted, what)), 0, at_most=True)
        for what in ("documents", "pictures", "words")
    ]
    figures.append(
        Figure(f"{name}: share of seconds off", abs(raw.seconds - wanted.seconds) / max(1, wanted.seconds), 1e-3, at_most=True)
    )
    figures.append(Figure(f"{name}: missing pictures", wanted.missing))
    figures.append(Figure(f"{name}: missing pictures unlisted", unlisted, 0, at_most=True))
    if name == "textbooks":
        count, inside = figures_of(data)
        figures.append(Figure(f"{name}: figures", count))
        figures.append(Figure(f"{name}: figures' pictures not there", (inside - bytes_of(documents)).total(), 0, at_most=True))
    figures.append(Figure(f"{name}: lint's problems", linted, 0, at_most=True))
    figures += [Figure(f"{name}: {one.name}", one.value, one.bar, one.at_most) for one in after]
    return [*figures, Figure(f"{name}: tools whose counts are off", sum(map(bool, off.values())), 0, at_most=True)]


if __name__ == "__main__":
    main()
