"""Copies by signatures on disk: the same as comparing all with all, whatever the shards, the processes, and where a run was
stopped."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.curate.copies.buckets import Member, bucket_pairs, write_keys
from mmpt.data.curate.copies.decisions import DuplicateSettings, whole_documents
from mmpt.data.curate.copies.minhash import WordHashes, band_keys, bands_for, jaccard, shingles, words_of
from mmpt.data.curate.copies.pairs import EQUAL, Media, copies_of, near_pairs
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import ConfigError

WORDS = [f"w{n}" for n in range(3000)]
TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9), max_size=6)


def grams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + n]) for at in range(len(words) - n + 1)} if len(words) >= n else {tuple(words)} - {()}


def write(folder: Path, documents: list[Document], size: int = 10_000) -> str:
    with ShardWriter(folder, built={}, max_documents=size) as writer:
        for document in documents:
            writer.write(document)
    return str(folder)


def corpus(count: int, seed: int = 0) -> list[Document]:
    """Texts of 40 to 120 words; two in five are copies of an earlier one with some words replaced."""
    draw, texts = np.random.default_rng(seed), []
    for number in range(count):
        words = [WORDS[n] for n in draw.integers(0, len(WORDS), draw.integers(40, 120))]
        if number and draw.random() < 0.4:
            words = list(texts[draw.integers(0, number)])
            for place in draw.integers(0, len(words), draw.integers(0, 5)):
                words[place] = WORDS[draw.integers(0, len(WORDS))]
        texts.append(words)
    return [Document(f"s{seed}-{number}", "t", (Text(" ".join(words)),)) for number, words in enumerate(texts)]


def result(folder: Path) -> tuple[list[Document], list]:
    return list(DocumentShards(folder)), from_lines((folder / "lost.jsonl").read_bytes())


@settings(deadline=None, max_examples=100)
@given(TEXTS, st.integers(1, 6))
def test_shingles_are_the_sets_of_n_grams(texts, ngram):
    values, bounds = shingles(texts, ngram, WordHashes())
    own = [values[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    expected = [grams(words, ngram) for words in texts]
    assert [len(one) for one in own] == [len(one) for one in expected]
    for a, one in enumerate(expected):
        for b, other in enumerate(expected):
            assert jaccard(own[a], own[b]) == pytest.approx(len(one & other) / len(one | other) if one and other else 0)
    keys = band_keys(values, bounds, 4, 2)
    for a, words in enumerate(texts):  # whatever else is in the batch
        alone = band_keys(*shingles([words], ngram, WordHashes()), 4, 2)
        assert (keys[a] == alone[0]).all() and (keys[a] == 0).all() == (not words)


def test_bands_are_equal_as_often_as_their_sets_are_alike():
    """The share of equal MinHash values estimates the Jaccard similarity (Broder 1997); bands of them are equal as its power."""
    draw = np.random.default_rng(0)
    for shared in (300, 150, 50):
        pairs = [draw.permutation(10**6)[: 400 - shared + 200].astype(str).tolist() for _ in range(60)]
        one = [words[:200] for words in pairs]
        other = [words[200 - shared // 2 : 400 - shared // 2] for words in pairs]
        similarity = (shared // 2) / (400 - shared // 2)
        for rows in (1, 3):
            left, right = (band_keys(*shingles(texts, 1, WordHashes()), 128 // rows, rows) for texts in (one, other))
            expected, count = similarity**rows, left.size
            assert abs((left == right).mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / count)
    assert bands_for(0.8) == (18, 7) and bands_for(1.0) == (1, 128)
    for threshold in (0.5, 0.7, 0.8, 0.9):
        bands, rows = bands_for(threshold)
        assert bands * rows <= 128 and 1 - (1 - threshold**rows) ** bands >= 0.98


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
    st.integers(1, 5),
)
def test_buckets_are_the_same_however_they_are_cut(keys, cuts, pieces):
    seen: dict[int, list[int]] = {}
    expected = set()
    for number, key in enumerate(keys):
        before = seen.setdefault(key, [])
        if key and before:
            expected |= {(before[0], number), (before[-1], number)}
        before.append(number)
    edges = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    with tempfile.TemporaryDirectory() as folder:
        members = []
        for shard, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
            own = np.array(keys[start:end], dtype=np.uint64)
            write_keys(Store(folder), shard, "t", np.stack([own[::-1] * np.uint64(0), own], axis=1).reshape(-1, 2))
            members.append(Member(folder, shard, start))
        bins = np.linspace(0, 256, pieces + 1).astype(int).tolist()
        found = [bucket_pairs(members, "t", 2, 1, (low, high), None) for low, high in zip(bins, bins[1:], strict=False)]
        assert sorted(map(tuple, np.concatenate(found).tolist())) == sorted(expected)
        assert not len(bucket_pairs(members, "t", 2, 0, (0, 256), None)), "keys of 0"


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6))
def test_what_goes_has_one_like_it_that_stays(seed):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 14))
    alike = np.triu(draw.random((count, count)), 1)
    alike[draw.random((count, count)) < 0.1] = EQUAL
    alike = np.triu(alike, 1)
    pairs = np.argwhere(alike > 0)
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    scores = alike[pairs[:, 0], pairs[:, 1]].astype(np.float32)
    gone = whole_documents(DuplicateSettings(exact=False), pairs, scores, lambda a, b: float(alike[a, b]))
    stay = [number for number in range(count) if number not in gone]
    for number, one in gone.items():
        assert one.keeper in stay and one.keeper < number and alike[one.keeper, number] >= 0.8
    assert not any(alike[a, b] >= 0.8 for a in stay for b in stay if a < b), "all pairs were given, so none is left"


def test_what_goes_is_what_goes_when_all_are_compared_with_all(tmp_path):
    documents = corpus(400)
    sets = [grams(words_of(one.parts[0].text), 5) for one in documents]
    stay: list[int] = []
    expected = {}
    for number, own in enumerate(sets):
        like = [other for other in stay if len(own & sets[other]) >= 0.8 * len(own | sets[other])]
        if like:
            expected[documents[number].id] = f"like {documents[like[0]].id} (Jaccard " \
                f"{len(own & sets[like[0]]) / len(own | sets[like[0]]):.2f})"  # fmt: skip
        else:
            stay.append(number)
    curate(Dedup(ngram=5, exact=False), [write(tmp_path / "in", documents)], tmp_path / "out")
    found = {one.document: one.reason for one in result(tmp_path / "out")[1]}
    assert len(expected) > 60 and found == expected


def test_a_later_set_loses_what_it_loses_beside_the_earlier_one(tmp_path):
    whole = corpus(300)
    first, second = write(tmp_path / "a", whole[:170], 40), write(tmp_path / "b", whole[170:], 70)
    step = Dedup(ngram=5)
    curate(step, [first, second], tmp_path / "both")
    curate(step, [first], tmp_path / "one")
    for shard in (tmp_path / "a").glob("*.tar"):
        shard.unlink()  # what was signed is enough
    later = step.model_copy(update={"against": (f"{tmp_path}/one.signatures",)})
    curate(later, [second], tmp_path / "two", RunConfig(processes=2))
    kept, lost = result(tmp_path / "both")
    own = {one.id for one in whole[170:]}
    assert result(tmp_path / "two") == ([one for one in kept if one.id in own], [one for one in lost if one.document in own])
    with pytest.raises(ConfigError, match="signatures by other settings"):
        curate(later.model_copy(update={"ngram": 4}), [second], tmp_path / "three")
    with pytest.raises(ConfigError, match="no folder of signatures"):
        curate(step.model_copy(update={"against": (str(tmp_path / "a"),)}), [second], tmp_path / "four")
    with pytest.raises(ConfigError, match="holds signatures of other documents or by other settings"):
        curate(step, [first.replace("/a", "/both")], tmp_path / "two")


def test_signatures_at_a_url_are_read_by_ranges(tmp_path):
    whole = corpus(120)
    first, second = write(tmp_path / "a", whole[:70], 30), write(tmp_path / "b", whole[70:], 30)
    found = []
    for place in (str(tmp_path), f"memory://{tmp_path.name}"):
        curate(Dedup(ngram=5), [first], f"{place}/one")
        curate(Dedup(ngram=5, against=(f"{place}/one.signatures",)), [second], f"{place}/two")
        found.append(Store(f"{place}/two").read("lost.jsonl"))
    assert found[0] == found[1] and found[0].count(b"near_text") + found[0].count(b"exact") > 10


@pytest.mark.slow
def test_killed_while_it_signs_it_goes_on_and_ends_with_the_same_bytes(tmp_path):
    folder = write(tmp_path / "in", corpus(600), 20)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(root / "datasets" / "dedup.py"), folder, "out", "--ngram", "5", "--processes", "1"]
    (tmp_path / "killed").mkdir()
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command, cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    signed = tmp_path / "killed" / "out.signatures"
    deadline = time.monotonic() + 120
    while not list(signed.glob("*.done")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {one.name: one.stat().st_mtime_ns for one in signed.glob("*.done")}
    assert 0 < len(before) < 30, "killed in the middle of signing"
    (signed / ".00001.documents.heap.1.tmp").write_bytes(b"killed in the middle of writing")
    assert subprocess.run(command, cwd=tmp_path / "killed", env=environment, capture_output=True).returncode == 0
    assert before == {name: (signed / name).stat().st_mtime_ns for name in before}, "not signed again"
    (tmp_path / "whole").mkdir()
    assert subprocess.run([*command[:-1], "2"], cwd=tmp_path / "whole", env=environment, capture_output=True).returncode == 0
    for folder in ("out", "out.signatures"):
        contents = [{one.name: one.read_bytes() for one in (tmp_path / name / folder).rglob("*") if one.is_file()}
                    for name in ("killed", "whole")]  # fmt: skip
        assert contents[0] == contents[1] and contents[0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_copies_of_a_picture_are_counted_as_sets_of_owners(seed):
    draw = np.random.default_rng(seed)
    base = draw.integers(0, 2**64, 3, dtype=np.uint64)
    flips = np.uint64(1) << draw.integers(0, 64, (25, 3), dtype=np.uint64)
    hashes = base[draw.integers(0, 3, 25)] ^ flips[:, 0] ^ flips[:, 1] ^ flips[:, 2]
    document = np.sort(draw.integers(0, 12, 25))
    unique, kind = np.unique(hashes, return_inverse=True)
    near = near_pairs(unique, 5)
    group = np.zeros(len(unique), dtype=np.int64)  # groups may be larger than they need be
    stays = draw.random(12) < 0.8
    found = copies_of(Media(document, np.arange(25), kind, near, group), stays)
    for number, one in enumerate(unique.tolist()):
        owners = {d for d, h in zip(document.tolist(), hashes.tolist(), strict=True) if stays[d] and (h ^ one).bit_count() <= 5}
        assert found[number] == len(owners)


def test_a_picture_of_many_variants_in_many_documents_takes_no_time_to_speak_of():
    """A site's logo: sets of its owners were once joined for each of them."""
    draw = np.random.default_rng(0)
    hashes = np.uint64(1) << draw.integers(0, 64, 20_000, dtype=np.uint64)
    unique, kind = np.unique(hashes, return_inverse=True)
    media = Media(np.arange(20_000), np.zeros(20_000, np.int64), kind, near_pairs(unique, 5), np.zeros(len(unique), np.int64))
    began = time.process_time()
    assert (copies_of(media, np.ones(20_000, dtype=bool)) == 20_000).all()
    assert time.process_time() - began < 3
