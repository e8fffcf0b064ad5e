"""Real sets through all tools, as commands one after the other, and what they hold counted by other libraries.

    python datasets/benches/real_sets.py [../shared/data [SET ...]]

Two textbooks (lxml), tutorials (cmark-gfm, html5lib), Common Voice (csv, FFmpeg's decoder) and LibriSpeech (its transcripts, the
headers of its FLAC files) go through build, lint, stats, view, card, score, select, dedup and to_tokens. Sets are read back by
Python's tarfile, token sets by numpy and tokenizers. Writes datasets/results/real_sets.json, in which figures of sets not named
stay; exits with 1 where a count is off.
"""

import csv
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import av
import cmarkgfm
import html5lib
import numpy as np
import yaml
from cmarkgfm.cmark import Options
from lxml import etree
from textbooks import reading, without_tex, words
from tokenizers import Tokenizer

from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "real_sets.json"
SHOWN = 20
NO_WORDS = re.compile(r"!\[[^\]]*\]\([^)]*\)|\{:[^}]*\}|</?(?:div|iframe|a|p|br|span|img|kbd)\b[^>]*>")
"""What of a tutorial's Markdown is no word of its text: pictures, attributes as kramdown has them, tags."""
PICTURE_ROWS, SPEECH_ROWS = 4, 8
SUFFIXES = {"image": (".png", ".jpg", ".jpeg", ".webp"), "speech": (".flac", ".wav", ".ogg", ".mp3")}


@dataclass
class Held:
    """What a set holds: words are runs of letters and digits; `missing` pictures are named and not there."""

    documents: int = 0
    pictures: int = 0
    words: int = 0
    seconds: float = 0.0
    missing: int = 0


def textbooks(folder: Path) -> Held:
    held = Held()
    for path in sorted(folder.rglob("index.cnxml")):
        seen = reading(path)
        there = [(path.parent / target).is_file() for target, _ in seen.pictures]
        held.documents += 1
        held.words += len(seen.words)
        held.pictures += sum(there)
        held.missing += len(there) - sum(there)
    return held


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
    held = Held()
    for path in sorted(folder.rglob("step_*.md")):
        text = "\n".join(line for line in path.read_text().splitlines() if not re.fullmatch("--- /?[a-z-]+ ---", line.strip()))
        page = cmarkgfm.github_flavored_markdown_to_html(re.sub("</?div[^>]*>", "", text), options=Options.CMARK_OPT_UNSAFE)
        pictures = html5lib.parse(page, namespaceHTMLElements=False).iter("img")
        there = [(path.parent / unquote(picture.get("src"))).is_file() for picture in pictures]
        held.documents += 1
        held.words += len(words(NO_WORDS.sub(" ", text)))
        held.pictures += sum(there)
        held.missing += len(there) - sum(there)
    return held


def common_voice(folder: Path) -> Held:
    with open(folder / "clips.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    held = Held(len(rows), words=sum(len(words(row["sentence"])) for row in rows))
    for row in rows:
        with av.open(str(folder / "clips" / row["path"])) as sound:
            held.seconds += sum(frame.samples / frame.sample_rate for frame in sound.decode(audio=0))
    return held


def librispeech(folder: Path) -> Held:
    lines = [line for path in folder.rglob("*.trans.txt") for line in path.read_text().splitlines() if line]
    held = Held(len(lines), words=sum(len(words(line.partition(" ")[2])) for line in lines))
    for path in folder.rglob("*.flac"):
        with open(path, "rb") as file:
            info = int.from_bytes(file.read(8 + 18)[18:26], "big")  # STREAMINFO: rate 20 bits, 8 bits, samples 36 bits
        held.seconds += (info & (1 << 36) - 1) / (info >> 44)
    return held


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
    raw = counted(folder / "raw")
    listed = sum(one["part"] == "image" for one in lost(folder / "raw"))
    unlisted = abs(listed - wanted.missing)
    linted = tool(folder, "lint.py", "raw").count("\n") - 1
    off = Counter()
    stats = tool(folder, "stats.py", "raw", "--page", "stats.html")
    off["stats"] = not re.search(rf"documents\s+│ {raw.documents:,} ", stats) or not re.search(
        rf"pictures\s+│ {raw.pictures:,},", stats
    )
    tool(folder, "view.py", "raw", "page.html", "--documents", str(SHOWN))
    first, page = counted(folder / "raw", SHOWN), (folder / "page.html").read_text()
    shown = (page.count("<section"), page.count("<img"), page.count("<audio"))
    off["view"] = shown != (1 + min(SHOWN, raw.documents), first.pictures, first.documents if raw.seconds else 0)
    card = tool(folder, "card.py", "raw")
    off["card"] = f"| {raw.documents:,} | " not in card or f" | {raw.pictures:,} | {raw.seconds / 3600:,.3f} |" not in card
    tool(folder, "score.py", write(folder, "words.yaml", {"scorer": {"kind": "signal", "of": "words"}, "name": "words"}), "raw")
    tool(folder, "score.py", write(folder, "fit.yaml", {"scorer": {"kind": "zip_fit", "target": "raw"}, "name": "fit"}), "raw")
    scores = np.concatenate([np.load(path) for path in sorted((folder / "raw" / "scores" / "words").glob("*.npy"))])
    spaced = [
        sum(len(part["text"].split()) for part in one["parts"] if part["type"] == "text") for one, _ in records(folder / "raw")
    ]
    off["score"] = not np.array_equal(np.nan_to_num(scores), np.array(spaced, np.float32))
    tool(
        folder,
        "select_documents.py",
        write(folder, "select.yaml", {"where": "words > 2", "by": "fit", "share": 0.5}),
        "raw",
        "best",
    )
    best = counted(folder / "best").documents
    off["select"] = best != round(0.5 * sum(count > 2 for count in spaced)) or best + len(lost(folder / "best")) != raw.documents
    tool(folder, "dedup.py", "raw", "unique")
    unique = counted(folder / "unique")
    off["dedup"] = unique.documents + sum(one["whole"] for one in lost(folder / "unique")) != raw.documents
    tool(folder, "../tokenizers/train.py", write(folder, "text.yaml", {"kind": "text", "data": ["unique"], "ids": 600}), "text")
    step = {"text": "text/tokenizer", "features": {"image": PICTURE_ROWS, "speech": SPEECH_ROWS}}
    tool(folder, "to_tokens.py", write(folder, "tokens.yaml", step), "unique", "tokens")
    tokens, pictures, sounds, read = decoded(folder / "tokens", folder / "text" / "tokenizer")
    spoken = sum(part["type"] == "speech" for one, _ in records(folder / "unique") for part in one["parts"])
    off["to_tokens"] = (pictures, sounds, read) != (unique.pictures, spoken, unique.words)
    off["lint after"] = tool(folder, "lint.py", "raw", "best", "unique", "tokens").count(": 0 problems") != 4
    print(name, wanted, raw, dict(off), f"listed {listed}, tokens {pictures, sounds, read} of {unique}")
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
        figures.append(
            Figure(f"{name}: figures' pictures not there", (inside - bytes_of(folder / "raw")).total(), 0, at_most=True)
        )
    figures.append(Figure(f"{name}: lint's problems", linted, 0, at_most=True))
    figures += [
        Figure(f"{name}: {what}", value) for what, value in (("selected", best), ("unique", unique.documents), ("tokens", tokens))
    ]
    return [*figures, Figure(f"{name}: tools whose counts are off", sum(map(bool, off.values())), 0, at_most=True)]


def write(folder: Path, name: str, content: dict) -> str:
    (folder / name).write_text(yaml.safe_dump(content))
    return name


def tool(folder: Path, name: str, *arguments: str) -> str:
    """What a command prints; it runs in `folder`."""
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str((ROOT / "datasets" / name).resolve()), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def records(folder: Path) -> list[tuple[dict, list[tuple[str, bytes]]]]:
    """(JSON, names and content of the media) of each document, in order, by Python's own reader of tars."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                if member.name.endswith(".json"):
                    found.append((json.loads(content.read()), []))
                else:
                    found[-1][1].append((member.name, content.read()))
    return found


def counted(folder: Path, most: int | None = None) -> Held:
    held = Held()
    for record, media in records(folder)[:most]:
        texts = [part["text"] for part in record["parts"] if part["type"] == "text"]
        held.documents += 1
        held.words += len(words(without_tex(" ".join(texts))))
        held.pictures += sum(name.endswith(SUFFIXES["image"]) for name, _ in media)
        held.seconds += sum(part["duration"] for part in record["parts"] if part["type"] == "speech")
    return held


def bytes_of(folder: Path) -> Counter[bytes]:
    return Counter(data for _, media in records(folder) for _, data in media)


def lost(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lost.jsonl").read_text().splitlines()]


def decoded(folder: Path, tokenizer: Path) -> tuple[int, int, int, int]:
    """(Tokens, pictures, recordings, words) of a token set: text ids decoded by the library, what is no text a space."""
    decoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    tokens = pictures = sounds = read = 0
    for _, media in records(folder):
        for name, data in media:
            if name.endswith(".ids.npy"):
                (folder.parent / "ids.npy").write_bytes(data)
                ids = np.load(folder.parent / "ids.npy")
                tokens += len(ids)
                text = ids < decoder.get_vocab_size()
                runs = np.split(ids, np.flatnonzero(np.diff(text)) + 1)
                parts = [decoder.decode(run.tolist()) for run in runs if run[0] < decoder.get_vocab_size()]
                read += len(words(without_tex(" ".join(parts))))
            pictures += name.endswith(SUFFIXES["image"])
            sounds += name.endswith(SUFFIXES["speech"])
    return tokens, pictures, sounds, read


if __name__ == "__main__":
    main()
