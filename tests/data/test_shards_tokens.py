"""Token shards: ids and weights come back, counts come from the index, and vocabularies that differ never meet."""

import dataclasses
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.shards.sample import decode_json
from mmpt.data.shards.tokens import TokenDocument, from_members, to_members
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import DataError, VocabularyError
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(300, "test", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
LARGE = dataclasses.replace(VOCABULARY, text_size=65_000)


@st.composite
def token_documents(draw, vocabulary: Vocabulary):
    ids = draw(
        st.lists(
            st.integers(0, vocabulary.size - 1).filter(lambda one: one != vocabulary.special("<|feature|>")),
            min_size=1,
            max_size=30,
        )
    )
    weights = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(ids), max_size=len(ids)))
    ids = np.array(ids, dtype=draw(st.sampled_from(["int64", "uint32", ">i4"])))
    weights = None if weights is None else np.array(weights)
    return TokenDocument(draw(st.text(max_size=8)), draw(st.text(max_size=3)), ids, weights)


def write(folder: Path, content: list[TokenDocument], vocabulary: Vocabulary = VOCABULARY, **limits: int) -> Path:
    with TokenShardWriter(folder, vocabulary=vocabulary, built={}, **limits) as writer:
        for document in content:
            writer.write(document)
    return folder


def some(count: int) -> list[TokenDocument]:
    return [TokenDocument(f"id-{n}", "test", np.arange(n + 1), np.zeros(n + 1) if n % 2 else None) for n in range(count)]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from([VOCABULARY, LARGE]))
def test_sequences_come_back_and_lengths_come_without_reading_a_tar(tmp_path_factory, data, vocabulary):
    content = data.draw(st.lists(token_documents(vocabulary), max_size=6, unique_by=lambda document: document.id))
    folder = write(tmp_path_factory.mktemp("set") / "set", content, vocabulary, max_documents=2)
    shards = TokenShards(folder, vocabulary)
    assert shards.vocabulary == vocabulary and len(shards) == len(content)
    for found, document in zip(shards, content, strict=True):
        assert (found.id, found.source) == (document.id, document.source)
        assert found.ids.dtype == (np.uint16 if vocabulary is VOCABULARY else np.uint32)
        assert found.ids.tolist() == document.ids.tolist()
        if document.weights is None or (document.weights == 1).all():
            assert found.weights is None
        else:
            assert found.weights.dtype == np.float32 and found.weights.tolist() == document.weights.tolist()
    for tar in folder.glob("*.tar"):
        os.truncate(tar, tar.stat().st_size)
        tar.write_bytes(bytes(tar.stat().st_size))
    blind = TokenShards(folder)
    assert blind.lengths.dtype == np.int64 and blind.lengths.tolist() == [len(document.ids) for document in content]
    edges = [0, vocabulary.special_offset, vocabulary.image_offset, vocabulary.speech_offset, vocabulary.size]
    for row, document in zip(blind.modality_counts.tolist(), content, strict=True):
        assert row == [sum(low <= i < high for i in document.ids.tolist()) for low, high in zip(edges, edges[1:], strict=False)]
    assert list(blind.manifest.counts.values()) == blind.modality_counts.sum(axis=0).tolist()


def test_members_are_plain_numpy_files_and_the_vocabulary_lies_beside(tmp_path):
    folder = write(tmp_path / "set", some(2))
    with tarfile.open(folder / "shard-00000.tar") as tar:
        names = [f"00000-00000{name}" for name in ("0.json", "0.ids.npy", "1.json", "1.ids.npy", "1.weights.npy")]
        assert tar.getnames() == names
        for name in names:
            (tmp_path / name).write_bytes(tar.extractfile(name).read())
    assert np.load(tmp_path / names[3], allow_pickle=False).tolist() == [0, 1]
    assert np.load(tmp_path / names[4], allow_pickle=False).dtype == np.float32
    record = json.loads((tmp_path / names[2]).read_text())
    assert record == {
        "format": "mmpt-tokens/1", "id": "id-1", "source": "test", "length": 2,
        "tokens": {"text": 2, "special": 0, "image": 0, "speech": 0},
    }  # fmt: skip
    assert Vocabulary.load(folder) == VOCABULARY
    assert json.loads((folder / "manifest.json").read_text())["vocabulary"] == VOCABULARY.fingerprint


def test_equal_content_gives_equal_bytes_in_every_file(tmp_path):
    one, two = (write(tmp_path / name, some(5), max_documents=2) for name in ("one", "two"))
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert files == {path.name: path.read_bytes() for path in two.iterdir()} and len(files) == 8


def test_vocabularies_that_differ_never_meet(tmp_path):
    folder = write(tmp_path / "set", some(2))
    other = dataclasses.replace(VOCABULARY, speech_codes=257)
    with pytest.raises(VocabularyError, match="speech_codes: 256 in .*set, 257 in "):
        TokenShards(folder, other)
    other.save(folder)
    with pytest.raises(VocabularyError, match="not the vocabulary that the manifest names"):
        TokenShards(folder)
    (folder / "vocabulary.json").unlink()
    with pytest.raises(VocabularyError, match="no such file"):
        TokenShards(folder)


def test_kinds_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="kind is 'tokens', expected 'documents'"):
        DocumentShards(write(tmp_path / "set", some(1)))


@pytest.mark.parametrize(
    ("ids", "weights", "error", "reason"),
    [
        ([], None, DataError, "at least one"),
        ([[1]], None, DataError, "one row"),
        ([1.0], None, DataError, "integers"),
        ([1], [1.0, 2.0], DataError, "expected float32"),
        ([1], [-1.0], DataError, "not negative"),
        ([1], [np.nan], DataError, "finite"),
        ([VOCABULARY.size], None, VocabularyError, "outside 0"),
        ([-1], None, VocabularyError, "outside 0"),
    ],
)
def test_a_refused_sequence_is_named_and_leaves_no_trace(tmp_path, ids, weights, error, reason):
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        with pytest.raises(error, match=f"document 'bad': .*{reason}"):
            writer.write(TokenDocument("bad", "test", np.array(ids), weights))
        writer.write(some(1)[0])
    assert [document.id for document in TokenShards(tmp_path / "set")] == ["id-0"]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["json", "ids.npy", "weights.npy"]), st.data())
def test_damaged_members_raise_only_data_errors(member, data):
    members, _, _ = to_members(some(6)[5], VOCABULARY)
    content = bytearray(members[member])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 80) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content)[: data.draw(st.sampled_from([None, 5, 70, -1]))]
    try:
        document = from_members({**members, member: content}, VOCABULARY)
    except DataError:
        return
    assert document.ids.shape == (6,) and (document.weights is None or document.weights.shape == (6,))


def test_objects_in_a_numpy_member_are_never_unpickled(tmp_path):
    members, _, _ = to_members(some(1)[0], VOCABULARY)
    np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="ids.npy"):
        from_members({**members, "ids.npy": (tmp_path / "evil.npy").read_bytes()}, VOCABULARY)


def test_a_missing_surplus_or_cut_member_is_an_error():
    members, _, _ = to_members(some(1)[0], VOCABULARY)
    with pytest.raises(DataError, match="ids.npy is missing"):
        from_members({"json": members["json"]}, VOCABULARY)
    with pytest.raises(DataError, match="1.png does not belong here"):
        from_members({**members, "1.png": b""}, VOCABULARY)
    for content in (members["ids.npy"][:-1], members["ids.npy"] + b"\0"):
        with pytest.raises(DataError, match="ids.npy: . bytes, expected 1 x 2"):
            from_members({**members, "ids.npy": content}, VOCABULARY)
    for data in (b"[]", b"{", b"\xff"):
        with pytest.raises(DataError, match="json: "):
            decode_json(data)


def test_torch_workers_read_one_open_set(tmp_path):
    shards = TokenShards(write(tmp_path / "set", some(30), max_documents=8))
    assert shards[0].id == "id-0"
    loaded = torch.utils.data.DataLoader(shards, batch_size=None, num_workers=2, collate_fn=None)
    assert [document.ids.tolist() for document in loaded] == [list(range(n + 1)) for n in range(30)]
