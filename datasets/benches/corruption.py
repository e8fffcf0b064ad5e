"""1,000 damaged copies of a set of shards: nothing is mispaired, nothing crashes, nothing is missing without being listed.

    python datasets/benches/corruption.py

Each copy has one tar cut short, flipped in some bytes, with a piece or the whole file deleted, or a piece doubled or another
shard put in its place. Beside it, webdataset reads the same damaged tars with `ignore_and_continue`, and the same samples with
keys that start anew in each shard, as most tars in the wild have them. Writes datasets/results/corruption.json.
"""

import hashlib
import json
import random
import shutil
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.shards.sample import encode_sample
from mmpt.data.shards.write import ShardWriter
from mmpt.data.sources.shards import Shards
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import encode_flac, encode_png
from mmpt.results import Figure, report

CORRUPTIONS = 1000
SHARDS, DOCUMENTS = 4, 12
RESULT = Path(__file__).resolve().parents[1] / "results" / "corruption.json"


def main() -> None:
    documents = make_documents()
    with tempfile.TemporaryDirectory() as temporary:
        sound, damaged = Path(temporary) / "sound", Path(temporary) / "damaged"
        with ShardWriter(sound, built={}, max_documents=DOCUMENTS) as writer:
            for document in documents:
                writer.write(document)
        restarting = with_restarting_keys(sound, Path(temporary) / "restarting")
        draw = random.Random(0)
        ours, unique, restart = Counter(), Counter(), Counter()
        for _ in range(CORRUPTIONS):
            seed = draw.random()
            ours += read_ours(corrupt(sound, damaged, seed), documents)
            unique += read_webdataset(damaged, documents)
            restart += read_webdataset(corrupt(restarting, damaged, seed), documents)
    figures = [
        Figure("corruptions", CORRUPTIONS, CORRUPTIONS),
        Figure("mispaired samples", ours["mispaired"], 0, at_most=True),
        Figure("crashes", ours["crashes"], 0, at_most=True),
        Figure("missing samples not listed", ours["unlisted"], 0, at_most=True),
        Figure("missing samples listed", ours["listed"]),
        Figure("samples read", ours["read"]),
        *(
            Figure(f"webdataset, {name}: {what}", counts[what])
            for name, counts in (("the same tars", unique), ("keys that restart", restart))
            for what in ("read", "mispaired", "halved", "missing", "crashes")
        ),
    ]
    sys.exit(0 if report(figures, RESULT, ["webdataset"]) else 1)


def make_documents() -> list[Document]:
    """Text, picture and utterance, whose content differs in every document."""
    draw = np.random.default_rng(0)
    found = []
    for number in range(SHARDS * DOCUMENTS):
        picture = encode_png(Picture.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)))
        samples = draw.uniform(-0.5, 0.5, 800).astype(np.float32)
        parts = (
            Text(f"text {number}"),
            Image(picture, "png", 16, 16),
            Speech(encode_flac(samples, 8000), "flac", 8000, 0.1, f"speech {number}"),
        )
        found.append(Document(f"id-{number}", "bench", parts))
    return found


def with_restarting_keys(sound: Path, folder: Path) -> Path:
    """The same samples in tars whose keys begin with 000000 in each."""
    folder.mkdir()
    for path in sorted(sound.glob("*.tar")):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key[-6:], {})[suffix] = tar.extractfile(member).read()
        (folder / path.name).write_bytes(b"".join(encode_sample(key, members) for key, members in samples.items()) + bytes(1024))
    return folder


def corrupt(sound: Path, damaged: Path, seed: float) -> Path:
    """A copy of `sound` with one random corruption of one tar."""
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(sound, damaged)
    draw = random.Random(seed)
    tars = sorted(damaged.glob("*.tar"))
    path = draw.choice(tars)
    data = path.read_bytes()
    # Half of the pieces are whole blocks of 512 bytes, as a tar is made of.
    unit = draw.choice([1, 512])
    start = draw.randrange(len(data) // unit) * unit
    end = min(len(data), start + draw.randint(1, 20) * (512 if unit == 512 else draw.randint(1, 500)))
    kind = draw.choice(["truncate", "flip", "delete", "delete file", "duplicate", "replace"])
    if kind == "truncate":
        path.write_bytes(data[:start])
    elif kind == "flip":
        changed = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
    elif kind == "delete":
        path.write_bytes(data[:start] + data[end:])
    elif kind == "delete file":
        path.unlink()
    elif kind == "duplicate":
        path.write_bytes(data[:end] + data[start:])
    else:
        path.write_bytes(draw.choice(tars).read_bytes())
    return damaged


def read_ours(folder: Path, documents: list[Document]) -> Counter:
    expected = {document.id: document for document in documents}
    keys = {f"{number // DOCUMENTS:05d}-{number % DOCUMENTS:06d}": document.id for number, document in enumerate(documents)}
    counts, read, listed = Counter(), set(), set()
    try:
        source = Shards(folder=str(folder))
        for one in (one for unit in source.units() for one in source.read(unit)):
            if isinstance(one, Lost):
                listed.add(keys[one.item.rpartition(" ")[2]])
            else:
                read.add(one.id)
                counts["mispaired"] += one != expected.get(one.id)
    except Exception as problem:
        print(f"crash: {type(problem).__name__}: {problem}")
        counts["crashes"] += 1
    missing = expected.keys() - read
    counts.update(read=len(read), listed=len(missing & listed), unlisted=len(missing - listed))
    return counts


def read_webdataset(folder: Path, documents: list[Document]) -> Counter:
    """What webdataset makes of the tars: `mispaired` samples hold members of two documents, `halved` ones not all members."""
    owner = {
        hashlib.sha256(part.data).digest(): document.id
        for document in documents
        for part in document.parts
        if not isinstance(part, Text)
    }
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    counts, read = Counter(), set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for sample in webdataset.WebDataset(urls, shardshuffle=False, handler=webdataset.ignore_and_continue):
                members = {name: data for name, data in sample.items() if not name.startswith("__")}
                try:
                    owners = {json.loads(members["json"])["id"]}
                except (KeyError, ValueError, UnicodeDecodeError):
                    owners = set()
                # A member whose bytes are damaged belongs to nobody: that is a decoder's to notice, and no wrong pair.
                owners |= {owner.get(hashlib.sha256(data).digest()) for name, data in members.items() if name != "json"} - {None}
                counts["mispaired"] += len(owners) > 1
                counts["halved"] += len(members) < 3
                read |= owners
    except Exception:
        counts["crashes"] += 1
    counts.update(read=len(read), missing=len(documents) - len(read))
    return counts


if __name__ == "__main__":
    main()
