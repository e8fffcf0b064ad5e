"""Document shards: what is written comes back, the bytes never change, and damage is an error that names the sample."""

import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError

weights = st.sampled_from([1.0, 0.0, 0.25])
payloads = st.binary(max_size=2000)
short, side, seconds = st.text(max_size=9), st.integers(1, 9), st.floats(0, 60)
words = st.lists(st.tuples(short, seconds, seconds), max_size=3).map(tuple)
texts = st.builds(Text, st.text(max_size=40), weights)
images = st.builds(Image, payloads, st.sampled_from(["png", "jpg", "webp"]), side, side, short, weights)
speeches = st.builds(Speech, payloads, st.sampled_from(["flac", "wav"]), st.just(16000), seconds, short, words, weights)
metas = st.dictionaries(short, st.none() | st.integers() | seconds | short)
documents = st.builds(
    Document, st.text(max_size=12), st.text(max_size=5), st.lists(texts | images | speeches, max_size=4).map(tuple), metas
)
document_lists = st.lists(documents, max_size=7, unique_by=lambda document: document.id)


def write(folder: Path, content: list[Document], **limits: int) -> Path:
    with ShardWriter(folder, built={"by": "a test"}, **limits) as writer:
        for document in content:
            writer.write(document)
    return folder


def some(count: int) -> list[Document]:
    parts = (Text("before"), Image(b"picture" * 99, "png", 3, 2), Text("after"), Speech(b"sound", "flac", 16000, 0.5))
    return [Document(f"id-{number}", "test", parts[: 1 + number % 4], {"number": number}) for number in range(count)]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(document_lists, st.integers(1, 4), st.sampled_from([1, 4096, 1 << 20]))
def test_documents_come_back_whole_and_in_order_over_any_cut_into_shards(tmp_path_factory, content, max_documents, max_bytes):
    folder = write(tmp_path_factory.mktemp("set") / "set", content, max_documents=max_documents, max_bytes=max_bytes)
    shards = DocumentShards(folder)
    assert list(shards) == content
    assert [shards[number] for number in reversed(range(len(content)))] == content[::-1]
    assert shards.manifest.documents == len(content)
    for shard in shards.manifest.shards:
        assert shard.documents <= max_documents
        assert shard.bytes <= max_bytes or shard.documents == 1
    for name, kind in (("text", Text), ("image", Image), ("speech", Speech)):
        assert shards.manifest.counts[name] == sum(isinstance(part, kind) for document in content for part in document.parts)


def test_equal_content_gives_equal_bytes_in_every_file(tmp_path):
    one = write(tmp_path / "one", [replace(document, meta={"a": 1, "b": 2}) for document in some(9)], max_documents=4)
    two = write(tmp_path / "two", [replace(document, meta={"b": 2, "a": 1}) for document in some(9)], max_documents=4)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert names == ["manifest.json"] + [f"shard-0000{n}.{kind}" for n in range(3) for kind in ("index.safetensors", "tar")]
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_tar_and_manifest_are_what_other_programs_expect(tmp_path):
    folder = write(tmp_path / "set", some(3))
    with tarfile.open(folder / "shard-00000.tar") as tar:
        members = tar.getmembers()
        key = "00000-000001"
        assert [member.name for member in members] == [
            "00000-000000.json", f"{key}.json", f"{key}.1.png", "00000-000002.json", "00000-000002.1.png",
        ]  # fmt: skip
        assert {(member.mtime, member.uid, member.gid, member.mode, member.uname) for member in members} == {(0, 0, 0, 0o644, "")}
        record = json.load(tar.extractfile(f"{key}.json"))
    assert record["format"] == "mmpt-document/1" and record["parts"][1]["member"] == "1.png"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["kind"], manifest["built"]) == ("mmpt-shards/2", "documents", {"by": "a test"})
    assert manifest["shards"][0]["parts"] == {"text": 4, "image": 2, "speech": 0}


def test_plain_webdataset_reads_the_tars(tmp_path):
    content = some(5)
    folder = write(tmp_path / "set", content, max_documents=3)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"0000{number // 3}-00000{number % 3}" for number in range(5)]
    assert [json.loads(sample["json"])["id"] for sample in samples] == [document.id for document in content]
    assert samples[3]["1.png"] == content[3].parts[1].data and samples[3]["3.flac"] == content[3].parts[3].data
    assert "1.png" not in samples[0]


def test_a_failed_run_leaves_nothing_and_an_earlier_set_as_it_was(tmp_path):
    write(tmp_path / "set", some(2))
    for folder in ("set", "new"):
        with pytest.raises(RuntimeError), ShardWriter(tmp_path / folder, built={}, max_documents=1) as writer:
            for document in some(3):
                writer.write(document)
            raise RuntimeError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert list(DocumentShards(tmp_path / "set")) == some(2)


def test_a_refused_document_leaves_no_trace(tmp_path):
    refused = [
        (Document("id-0", "test", (Text("again"),)), "id-0.* was written before"),
        (Document("gif", "test", (Image(b"", "gif", 1, 1),)), "gif.*no name of image data"),
        (Document("nan", "test", (), {"score": float("nan")}), "nan"),
        (Document("surrogate", "test", (Text("\ud800"),)), "surrogate"),
        (Document("weight", "test", (Text("", -1.0),)), "weight is -1.0"),
        (Document("object", "test", (), {"value": object()}), "object"),
    ]
    with ShardWriter(tmp_path / "set", built={}) as writer:
        writer.write(some(1)[0])
        for document, reason in refused:
            with pytest.raises(DataError, match=reason):
                writer.write(document)
        writer.write(some(2)[1])
    assert list(DocumentShards(tmp_path / "set")) == some(2)


def test_opening_refuses_what_is_not_finished_or_not_whole(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        DocumentShards(tmp_path / "nowhere")
    folder = write(tmp_path / "set", some(6), max_documents=3)
    manifest, tar = folder / "manifest.json", folder / "shard-00001.tar"
    whole, content = tar.read_bytes(), manifest.read_text()

    tar.write_bytes(whole[:-700])
    with pytest.raises(DataError, match=rf"shard-00001.tar: {len(whole) - 700} bytes, expected {len(whole)}: cut short"):
        DocumentShards(folder)[4]
    tar.unlink()
    with pytest.raises(DataError, match="shard-00001.tar: no such file"):
        DocumentShards(folder)[4]
    assert DocumentShards(folder)[1].id == some(6)[1].id
    tar.write_bytes(whole)

    for old, new, reason in [
        ("mmpt-shards/2", "mmpt-shards/1", "format is 'mmpt-shards/1', expected 'mmpt-shards/2'"),
        ('"kind": "documents"', '"kind": "tokens"', "kind is 'tokens', expected 'documents'"),
        ("shard-00001.tar", "../shard-00001.tar", "shards.1.name"),
        ('"documents": 6', '"documents": 7', "do not add up"),
        ('"sha256"', '"sha"', "shards.0.sha256: missing"),
    ]:
        assert old in content
        manifest.write_text(content.replace(old, new))
        with pytest.raises(DataError, match=reason):
            DocumentShards(folder)
    manifest.unlink()
    with pytest.raises(DataError, match="manifest.json is missing"):
        DocumentShards(folder)
    manifest.write_text(content)

    index = folder / "shard-00000.index.safetensors"
    for place in (3, len(index.read_bytes()) - 2):
        flip(index, place)
        with pytest.raises(DataError, match="shard-00000.index.safetensors"):
            DocumentShards(folder)[0]
        flip(index, place)
    assert list(DocumentShards(folder)) == some(6)


def test_any_flipped_bit_is_noticed_when_its_sample_is_read_and_only_there(tmp_path):
    content = some(6)
    folder = write(tmp_path / "set", content)
    tar = folder / "shard-00000.tar"
    with tarfile.open(tar) as file:
        owners = [(member.offset, int(member.name.partition(".")[0][6:])) for member in file.getmembers()]
    samples_end = tar.stat().st_size - 1024
    for place in np.random.default_rng(0).integers(0, samples_end, 60).tolist():
        owner = [number for offset, number in owners if offset <= place][-1]
        flip(tar, place)
        shards = DocumentShards(folder)
        with pytest.raises(DataError, match=f"shard-00000.tar: sample 00000-{owner:06d}"):
            shards[owner]
        assert [shards[number] for number in range(6) if number != owner] == [d for n, d in enumerate(content) if n != owner]
        flip(tar, place)


def test_one_open_set_serves_forked_and_unpickled_readers(tmp_path):
    content = some(40)
    shards = DocumentShards(write(tmp_path / "set", content, max_documents=7))
    assert shards[20] == content[20]
    children = []
    for start in (0, 1):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(shards[number] == content[number] for number in list(range(start, 40, 2)) * 20) else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    copy = pickle.loads(pickle.dumps(shards))
    assert list(copy) == content
    del copy
    assert list(shards) == content, "the copy closed no file of the original"
    with pytest.raises(IndexError):
        shards[40]
    assert shards[-1] == content[-1]


def test_more_shards_than_files_may_be_open(tmp_path, monkeypatch):
    content = some(12)
    shards = DocumentShards(write(tmp_path / "set", content, max_documents=1))
    monkeypatch.setattr("mmpt.data.shards.read.MAX_OPEN", 3)
    before = len(os.listdir("/proc/self/fd"))
    assert list(shards) == content
    assert len(os.listdir("/proc/self/fd")) <= before + 3
