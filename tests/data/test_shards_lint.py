"""Lint finds each kind of damage and names file and sample; a sound set has no problem."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.data.shards.index import decode_index, encode_index, id_hash
from mmpt.data.shards.lint import Problem, lint
from mmpt.data.shards.manifest import index_name
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import ShardWriter, TokenShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import encode_flac, encode_png
from mmpt.storage import sha256, write_json
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
PNG = encode_png(Picture.new("RGB", (8, 6), "red"))
FLAC = encode_flac(np.linspace(-0.5, 0.5, 8000, dtype=np.float32), 16000)
VOCABULARY = Vocabulary(300, "test", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)


def document(name: str, *parts) -> Document:
    return Document(name, "test", parts or (Text("a"), Image(PNG, "png", 8, 6), Speech(FLAC, "flac", 16000, 0.5)))


def write(folder: Path, documents: list[Document], max_documents: int = 2) -> Path:
    with ShardWriter(folder, built={}, max_documents=max_documents) as writer:
        for one in documents:
            writer.write(one)
    return folder


def reseal(folder: Path) -> None:
    """Bring indices and manifest in line with tars that were changed: what somebody who means harm would do."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["shards"]:
        tar = folder / shard["name"]
        path = folder / index_name(tar.name)
        index, data = decode_index(path.read_bytes(), 3, ""), tar.read_bytes()
        spans = zip(index.offsets, index.offsets[1:], strict=False)
        checksums = np.array([zlib.crc32(data[a:b]) for a, b in spans])
        ids = np.array([id_hash(record_id(data[a:b])) for a, b in zip(index.offsets, index.offsets[1:], strict=False)], np.uint64)
        path.write_bytes(encode_index(dataclasses.replace(index, checksums=checksums, ids=ids)))
        shard["sha256"] = sha256(tar)
        for file in (tar, path):
            manifest["files"][file.name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    write_json(folder / "manifest.json", manifest)


def record_id(sample: bytes) -> str:
    """The document id in a sample's bytes, "" where none can be found."""
    found = re.search(rb'"id":"([^"]*)"', sample)
    return found[1].decode() if found else ""


def replace_header(tar: Path, member: str, changes: dict) -> None:
    """Change fields of a member's header in place, its checksum made right."""
    with tarfile.open(tar) as file:
        info = file.getmember(member)
    data = bytearray(tar.read_bytes())
    for field, value in changes.items():
        setattr(info, field, value)
    data[info.offset : info.offset + 512] = info.tobuf(tarfile.USTAR_FORMAT)
    tar.write_bytes(data)


def test_a_sound_set_has_no_problem(tmp_path):
    assert lint(write(tmp_path / "set", [document(f"{n}") for n in range(5)])) == []
    assert lint(write(tmp_path / "empty", [])) == []


def test_a_flipped_bit_is_found_and_its_sample_named(tmp_path):
    folder = write(tmp_path / "set", [document(f"{n}") for n in range(4)])
    tar = folder / "shard-00001.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(PNG, data.index(PNG) + 1) + 20] ^= 4
    tar.write_bytes(data)
    assert lint(folder) == [
        Problem("shard-00001.tar", "", "differs from the hash in manifest.json"),
        Problem("shard-00001.tar", "00001-000001", "its bytes do not match the checksum in the index"),
    ]


def test_files_missing_added_linked_or_cut_short_are_found(tmp_path):
    folder = write(tmp_path / "set", [document(f"{n}") for n in range(8)])
    (folder / "shard-00000.tar").unlink()
    (folder / "shard-00001.index.safetensors").write_bytes(b"")
    os.truncate(folder / "shard-00002.tar", 1000)
    (folder / "shard-00003.tar").rename(tmp_path / "elsewhere.tar")
    (folder / "shard-00003.tar").symlink_to(tmp_path / "elsewhere.tar")
    (folder / "left-over.tar").write_bytes(b"")
    found = {(problem.shard, problem.reason.split(":")[0]) for problem in lint(folder)}
    assert found == {
        ("shard-00000.tar", "missing"),
        ("shard-00000.tar", "its samples cannot be examined"),
        ("shard-00001.index.safetensors", "differs from the hash in manifest.json"),
        ("shard-00001.tar", "its samples cannot be examined"),
        ("shard-00002.tar", "differs from the hash in manifest.json"),
        ("shard-00002.tar", "its samples cannot be examined"),
        ("shard-00003.tar", "a link"),
        ("left-over.tar", "not in manifest.json"),
    }


@pytest.mark.parametrize(
    ("member", "changes", "reason"),
    [
        ("1.png", {"name": "00000-000001.4.png"}, "part 1: member 1.png is missing"),
        ("1.png", {"name": "00000-000001.2.flac"}, "is there twice"),
        ("1.png", {"name": "00000-000000.1.png"}, "is no name of a member of sample 00000-000001"),
        ("1.png", {"name": "00000-000001.../../evil.png"}, "is no name of a member"),
        ("1.png", {"name": "/etc/passwd"}, "is no name of a member"),
        ("1.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "no regular file"),
        ("1.png", {"type": tarfile.LNKTYPE}, "no regular file"),
        ("1.png", {"type": tarfile.DIRTYPE}, "no regular file"),
        ("1.png", {"size": 1 << 30}, "is cut short"),
        ("1.png", {"size": 600}, "a damaged tar header"),
        ("json", {"name": "00000-000001.txt"}, "member json is missing"),
        ("json", {"name": "00000-000000.json"}, "is no name of a member of sample 00000-000001"),
    ],
)
def test_a_sample_that_is_not_whole_or_reaches_out_is_refused_by_lint_and_reader(tmp_path, member, changes, reason):
    folder = write(tmp_path / "set", [document(f"{n}") for n in range(3)], max_documents=9)
    replace_header(folder / "shard-00000.tar", f"00000-000001.{member}", changes)
    reseal(folder)
    (problem,) = lint(folder)
    assert (problem.shard, problem.key) == ("shard-00000.tar", "00000-000001") and reason in problem.reason
    shards = DocumentShards(folder)
    with pytest.raises(DataError, match="shard-00000.tar: sample 00000-000001: "):
        shards[1]
    assert (shards[0].id, shards[2].id) == ("0", "2")


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (Image(PNG[:-30], "png", 8, 6), "no picture that can be decoded"),
        (Image(PNG, "png", 8, 7), "8 x 6 pixels, recorded as 8 x 7"),
        (Speech(FLAC[:100], "flac", 16000, 0.5), "audio"),
        (Speech(FLAC, "flac", 16000, 0.9), "0.50 s of audio, recorded as 0.90 s"),
        (Speech(FLAC, "flac", 0, 0.5), "sample_rate is 0"),
    ],
)
def test_media_that_do_not_decode_to_what_is_recorded_are_found(tmp_path, part, reason):
    folder = write(tmp_path / "set", [document("good"), document("bad", Text("a"), part)])
    (problem,) = lint(folder)
    assert problem.key == "00000-000001" and problem.reason.startswith("part 1: ") and reason in problem.reason


def test_a_document_id_used_twice_is_found(tmp_path):
    folder = write(tmp_path / "set", [document("one"), document("two")])
    tar = folder / "shard-00000.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"id":"two"', b'"id":"one"'))
    reseal(folder)
    (problem,) = lint(folder)
    assert problem.key == "00000-000001" and problem.reason == "document id 'one' is also that of sample 00000-000000"


def test_token_sets_are_held_against_vocabulary_and_index(tmp_path):
    folder = tmp_path / "set"
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number in range(3):
            writer.write(TokenDocument(f"{number}", "test", np.array([number, 299])))
    assert lint(folder) == []
    tar = folder / "shard-00000.tar"
    path = folder / index_name(tar.name)
    index = decode_index(path.read_bytes(), 4, "")
    data = tar.read_bytes()
    old, new = np.array([[1, 299], [1, 300]], dtype="<u2")
    start = data.index(old.tobytes())
    data = data[:start] + new.tobytes() + data[start + 4 :]
    tar.write_bytes(data)
    spans = zip(index.offsets, index.offsets[1:], strict=False)
    checksums = np.array([zlib.crc32(data[a:b]) for a, b in spans])
    path.write_bytes(encode_index(dataclasses.replace(index, checksums=checksums)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = sha256(path)
    write_json(folder / "manifest.json", manifest)
    problems = [problem for problem in lint(folder) if problem.key]
    assert [problem.key for problem in problems] == ["00000-000001"]
    assert "[1, 1, 0, 0] tokens of text, special, image, speech, the index says [2, 0, 0, 0]" in problems[0].reason
    assert TokenShards(folder)[1].ids.tolist() == [1, 300]


@pytest.mark.slow
def test_the_scripts_print_and_exit_as_they_promise(tmp_path):
    def script(name: str, *arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, ROOT / "datasets" / name, *arguments]
        environment = {**os.environ, "COLUMNS": "120"}
        return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment)

    folder = write(tmp_path / "set", [document(f"{n}") for n in range(4)])
    sound = script("lint.py", folder)
    assert (sound.returncode, sound.stdout) == (0, f"{folder}: 0 problems\n"), sound.stderr
    table = script("stats.py", folder)
    assert table.returncode == 0, table.stderr
    assert "source: test" in table.stdout and "4, 0.00 MB" in table.stdout
    plots = script("stats.py", folder, "--page", tmp_path / "stats.html")
    assert plots.returncode == 0, plots.stderr
    content = (tmp_path / "stats.html").read_text()
    assert content.count("data:image/svg+xml") == 4 and "language: not said" in content
    os.truncate(folder / "shard-00001.tar", 512)
    damaged = script("lint.py", folder)
    assert damaged.returncode == 1 and f"{folder}/shard-00001.tar: differs from the hash" in damaged.stdout
    nothing = script("lint.py", tmp_path / "nowhere")
    assert nothing.returncode == 2 and "no such folder" in nothing.stderr and "Traceback" not in nothing.stderr
