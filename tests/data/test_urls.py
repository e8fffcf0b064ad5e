"""Every tool that reads or writes shards takes a path and any URL of fsspec, and makes the same shards of both."""

import json
import runpy
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

from mmpt.data.shards.manifest import read_manifest
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.store import Store, write_file
from mmpt.document import Document, Speech, Text
from mmpt.media import encode_flac
from mmpt.tokenizers.text import train_text_tokenizer

ROOT = Path(__file__).parents[2]
TEXT = "a lamp stands on the table in a quiet room and a bird looks at it through the open window"
WORDS = TEXT.split()


class Bucket(MemoryFileSystem):
    """As an object store: there are no folders, only names, and every range that is read is counted."""

    protocol = "bucket"
    store: dict = {}  # noqa: RUF012 (that of the class is what all share, as in fsspec's own)
    pseudo_dirs = [""]  # noqa: RUF012
    ranges: list[tuple[str, int]] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("bucket://"))

    def cat_file(self, path, start=None, end=None, **options):
        data = super().cat_file(path, start, end, **options)
        self.ranges.append((path, len(data)))
        return data


fsspec.register_implementation("bucket", Bucket, clobber=True)


def script(name: str, *arguments: object) -> None:
    """Run a tool in this process, to which what lies in memory belongs."""
    before, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / "datasets" / name), run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{name}: {end.code}"
    finally:
        sys.argv = before


@pytest.fixture(params=["file", "memory", "bucket"])
def there(request, tmp_path) -> str:
    return f"file://{tmp_path}/there" if request.param == "file" else f"{request.param}://urls-{tmp_path.name}"


def yaml_file(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def utterance(number: int) -> Document:
    samples = np.sin(np.arange(16000 + 400 * number, dtype=np.float32) / (20 + number)) / 2
    text = " ".join(WORDS[(number + place) % len(WORDS)] for place in range(9))
    words = tuple((word, at / 10, at / 10 + 0.1) for at, word in enumerate(text.split()))
    speech = Speech(encode_flac(samples, 16000), "flac", 16000, len(samples) / 16000, text, words)
    return Document(f"d/{number}", "d", (speech, Text(text)), {"license": "CC0-1.0", "language": "en"})


def test_all_tools_read_and_write_urls(there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with ShardWriter(tmp_path / "pool", built={}, max_documents=8) as writer:
        for number in range(20):
            writer.write(utterance(number))
    for path in (tmp_path / "pool").iterdir():
        Store(f"{there}/pool").write(path.name, path.read_bytes())
    train_text_tokenizer([" ".join(WORDS)] * 9, 300).save_pretrained(tmp_path / "text")
    filters = yaml_file(tmp_path / "filter.yaml", {"rules": [{"kind": "text_length", "min": 5}]})
    scores = {"scorer": {"kind": "zip_fit", "target": f"{there}/pool"}, "name": "fit"}
    scored = yaml_file(tmp_path / "score.yaml", scores)
    near = yaml_file(tmp_path / "near.yaml", {"scorer": {"kind": "zip_fit", "target": "pool"}, "name": "fit"})
    select = yaml_file(tmp_path / "select.yaml", {"by": "fit", "documents": 7})
    spoken = yaml_file(tmp_path / "interleave.yaml", {"speech": {"kind": "alignments"}})
    mixed = yaml_file(tmp_path / "compose.yaml", {"composition": {"kind": "mixture"}})
    tokens = yaml_file(tmp_path / "tokens.yaml", {"text": "text"})
    one = ("--processes", 1)
    sets = []
    for place, target in (("", near), (f"{there}/", scored)):
        script("filter.py", filters, f"{place}pool", f"{place}filtered", *one)
        script("dedup.py", f"{place}filtered", f"{place}unique", *one)
        script("join.py", f"{place}unique", f"{place}joined", *one)
        script("reshard.py", f"{place}unique", f"{place}joined", f"{place}merged", *one)
        script("score.py", target, f"{place}unique", *one)
        script("select_documents.py", select, f"{place}unique", f"{place}selected", *one)
        script("interleave.py", spoken, f"{place}selected", f"{place}interleaved", *one)
        script("compose.py", mixed, f"{place}selected", f"{place}composed", *one)
        script("degrade.py", f"{place}selected", f"{place}texts", "--to", "text", *one)
        script("to_tokens.py", tokens, f"{place}texts", f"{place}tokens", *one)
        names = ["filtered", "unique", "joined", "merged", "selected", "interleaved", "composed", "texts", "tokens"]
        script("lint.py", *(f"{place}{name}" for name in names))
        script("stats.py", f"{place}selected", f"{place}tokens", "--page", f"{place}stats.html")
        script("view.py", f"{place}selected", f"{place}page.html", "--start", 2, "--documents", 3)
        script("card.py", f"{place}selected", f"{place}README.md")
        sets.append({name: [shard.sha256 for shard in read_manifest(f"{place}{name}").shards] for name in names})
    assert sets[0] == sets[1] and read_manifest("selected").documents == 7
    far = Store(there)
    assert far.read("README.md") == (tmp_path / "README.md").read_bytes().replace(b"target: pool", b"")
    assert b"7 documents, number 2 to 4 on this page" in far.read("page.html") and far.read("stats.html").startswith(
        b"<!doctype html>"
    )
    assert [one.ids.tolist() for one in TokenShards(f"{there}/tokens")] == [one.ids.tolist() for one in TokenShards("tokens")]
    assert capsys.readouterr().out.count(": 0 problems") == 18


def test_build_reads_folders_at_urls(there, tmp_path, monkeypatch):
    """Tables, transcripts and recordings, each source's own way to find what belongs together."""
    monkeypatch.chdir(tmp_path)
    data = encode_flac(np.sin(np.arange(8000, dtype=np.float32) / 20) / 2, 16000)
    for place in (str(tmp_path), there):
        write_file(f"{place}/digits/one_ann_0.flac", data)
        write_file(f"{place}/read/7/3/7-3-0.flac", data)
        write_file(f"{place}/read/7/3/7-3.trans.txt", b"7-3-0 ONE\n")
        write_file(f"{place}/nemo/m.jsonl", json.dumps({"audio_filepath": "a.flac", "text": "one"}).encode())
        write_file(f"{place}/nemo/a.flac", data)
    found = []
    for place in (str(tmp_path), there):
        sources = [
            {"kind": "recordings", "folder": f"{place}/digits", "indices": [0, 1], "pattern": "{label}_{speaker}_{index}.flac"},
            {"kind": "recordings", "folder": f"{place}/digits", "indices": [0, 1], "count": 3, "name": "many",
             "pattern": "{label}_{speaker}_{index}.flac"},
            {"kind": "librispeech", "folder": f"{place}/read"},
            {"kind": "nemo", "manifest": f"{place}/nemo/m.jsonl"},
        ]  # fmt: skip
        script("build.py", yaml_file(tmp_path / "spec.yaml", {"sources": sources}), f"{place}/built", "--processes", 1)
        found.append(list(DocumentShards(f"{place}/built")))
    assert found[0] == found[1] and len(found[0]) == 6


def test_one_document_of_a_large_set_elsewhere_is_one_small_read(tmp_path):
    with ShardWriter(tmp_path / "set", built={}) as writer:
        for number in range(200):
            writer.write(Document(f"d{number}", "d", (Text("word " * 2000),)))
    for path in (tmp_path / "set").iterdir():
        Store("bucket://large").write(path.name, path.read_bytes())
    shards = DocumentShards("bucket://large")
    assert shards[0] and shards[150].id == "d150"
    Bucket.ranges.clear()
    assert shards[90].id == "d90"
    assert [size < 20_000 for _, size in Bucket.ranges] == [True]
    Bucket.ranges.clear()
    assert [one.id for one in shards] == [f"d{number}" for number in range(200)]
    assert len(Bucket.ranges) <= 3  # one after the other they come in large pieces
