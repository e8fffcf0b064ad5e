"""Sets of documents and tokens as other libraries read them: Python's tarfile and json, numpy, tokenizers."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
SUFFIXES = {"image": (".png", ".jpg", ".jpeg", ".webp", ".gif"), "speech": (".flac", ".wav", ".ogg", ".mp3")}


@dataclass
class Record:
    """A document: its JSON, and names and bytes of its media."""

    about: dict
    media: list[tuple[str, bytes]]

    @property
    def id(self) -> str:
        return self.about["id"]

    @property
    def texts(self) -> list[str]:
        return [part["text"] for part in self.about["parts"] if part["type"] == "text"]

    @cached_property
    def words(self) -> int:
        return len(words(without_tex(" ".join(self.texts))))

    @property
    def pictures(self) -> list[bytes]:
        return [data for name, data in self.media if name.endswith(SUFFIXES["image"])]

    @property
    def seconds(self) -> float:
        return sum(part["duration"] for part in self.about["parts"] if part["type"] == "speech")

    @property
    def content(self) -> tuple:
        """What is in its parts, whatever its id and meta."""
        files = dict(self.media)
        parts = []
        for part in self.about["parts"]:
            data = next((data for name, data in files.items() if name.endswith("." + part.get("member", "\0"))), None)
            parts.append((json.dumps({key: value for key, value in part.items() if key != "member"}, sort_keys=True), data))
        return tuple(parts)


@dataclass
class Held:
    """What a set holds: words are runs of letters and digits; `missing` pictures are named and not there."""

    documents: int = 0
    pictures: int = 0
    words: int = 0
    seconds: float = 0.0
    missing: int = 0


def records(folder: Path) -> list[Record]:
    """The documents of a set in order."""
    found: list[Record] = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                if member.name.endswith(".json"):
                    found.append(Record(json.loads(content.read()), []))
                else:
                    found[-1].media.append((member.name, content.read()))
    return found


def held(documents: list[Record]) -> Held:
    found = Held(len(documents))
    for one in documents:
        found.words += one.words
        found.pictures += len(one.pictures)
        found.seconds += one.seconds
    return found


def lost(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lost.jsonl").read_text().splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


def without_tex(text: str) -> str:
    """The text without TeX's own words."""
    return re.sub(r"\\(?:begin|end)\{matrix\}|\\[a-z]+", " ", text)


@dataclass
class Tokens:
    """What a token set holds; `slots` are the rows of features, `marked` the pictures that stand between marks."""

    tokens: int = 0
    pictures: int = 0
    sounds: int = 0
    slots: int = 0
    marked: int = 0
    words: int = 0


def decoded(folder: Path, tokenizer: Path) -> Tokens:
    """What is in a token set, text ids decoded by the library, what is no text a space."""
    decoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    texts, special = decoder.get_vocab_size(), json.loads((folder / "vocabulary.json").read_text())["special"]
    found = Tokens()
    for ids, media in sequences(folder):
        found.tokens += len(ids)
        found.slots += int((ids == texts + special.index("<|feature|>")).sum())
        found.marked += int((ids == texts + special.index("<|image|>")).sum())
        runs = np.split(ids, np.flatnonzero(np.diff(ids < texts)) + 1)
        found.words += len(words(without_tex(" ".join(decoder.decode(run.tolist()) for run in runs if run[0] < texts))))
        found.pictures += sum(name.endswith(SUFFIXES["image"]) for name in media)
        found.sounds += sum(name.endswith(SUFFIXES["speech"]) for name in media)
    return found


def sequences(folder: Path) -> Iterator[tuple[np.ndarray, list[str]]]:
    """(Ids, names of the media) of each sample of a token set."""
    for record in records(folder):
        ids = next(data for name, data in record.media if name.endswith(".ids.npy"))
        yield np.load(io.BytesIO(ids)), [name for name, _ in record.media]


def write(folder: Path, name: str, content: dict) -> str:
    (folder / name).write_text(yaml.safe_dump(content))
    return name


def tool(folder: Path, name: str, *arguments: object) -> str:
    """What a command prints; it runs in `folder`."""
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str((ROOT / "datasets" / name).resolve()), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{name} {' '.join(command[2:])}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def bytes_of(documents: list[Record]) -> Counter[bytes]:
    return Counter(data for one in documents for _, data in one.media)
