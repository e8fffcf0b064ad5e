"""Planted duplicates go and nothing else does, the first stays, and neither shards nor processes change what is decided."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from PIL import ImageEnhance

from mmpt.data.curate.copies.pairs import near_pairs
from mmpt.data.curate.copies.signatures import perceptual_hash
from mmpt.data.curate.job import curate
from mmpt.data.curate.portions import ShardSets
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost, from_lines
from mmpt.data.shards.lint import lint
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import encode_png

GUIDES = Path(__file__).resolve().parents[3] / "shared" / "data" / "guides"


def blobs(seed: int) -> Picture.Image:
    """A smooth picture unlike others."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Picture.fromarray(coarse).resize((96, 96), Picture.Resampling.BICUBIC)


def part(picture: Picture.Image) -> Image:
    return Image(encode_png(picture), "png", picture.width, picture.height)


def words(seed: int, count: int = 200) -> list[str]:
    return [f"w{n}" for n in np.random.default_rng(seed).integers(0, 5000, count)]


def write(folder: Path, documents, size: int = 10_000) -> str:
    with ShardWriter(folder, built={}, max_documents=size) as writer:
        for document in documents:
            writer.write(document)
    return str(folder)


def decided(config: Dedup, *documents: Document) -> list:
    """The documents and what was lost of them, in the order in which a shard is gone through."""
    with tempfile.TemporaryDirectory() as folder:
        sets = ShardSets(folders=(write(Path(folder) / "in", documents),))
        found = []
        for unit in config.prepare(sets, RunConfig(), None, f"{folder}/out"):
            found += config.run(sets.documents(unit), config.recall(unit.what.told, f"{folder}/out"))
        return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=40), st.integers(0, 12), st.integers(0, 10**6))
def test_near_pairs_are_those_of_comparing_all(hashes, distance, seed):
    draw = np.random.default_rng(seed)
    planted = [h ^ sum(1 << int(bit) for bit in set(draw.integers(0, 64, distance + 1).tolist())) for h in hashes[:10]]
    values = np.array(sorted({*hashes, *planted}), dtype=np.uint64)
    expected = [
        [i, j] for i in range(len(values)) for j in range(i + 1, len(values))
        if (int(values[i]) ^ int(values[j])).bit_count() <= distance
    ]  # fmt: skip
    assert near_pairs(values, distance).tolist() == expected


def test_equal_documents_and_texts_alike_go_but_the_first(tmp_path):
    text = words(0)
    changed = [word if n % 100 else "other" for n, word in enumerate(text)]  # 2 of 200 words
    half = [word if n % 2 else "other" for n, word in enumerate(text)]
    documents = [
        Document("first", "a", (Text(" ".join(text)),)),
        Document("equal", "a", (Text(" ".join(text)),)),
        Document("alike", "b", (Text(" ".join(changed).upper() + "!"),)),
        Document("half", "a", (Text(" ".join(half)),)),
        Document("short", "a", (Text("a few words"),)),
        Document("short too", "a", (Text("a few words!"),)),
    ]
    found = decided(Dedup(ngram=3), *documents)
    lost = {one.document: one for one in found if isinstance(one, Lost)}
    assert {name: one.rule for name, one in lost.items()} == {"equal": "exact", "alike": "near_text"}
    assert lost["equal"].reason == "equal to first" and lost["alike"].reason.startswith("like first (Jaccard 0.9")
    apart = decided(Dedup(ngram=3, scope="source"), *documents)
    assert [one.document for one in apart if isinstance(one, Lost)] == ["equal"], "sources apart"
    off = decided(Dedup(exact=False, text=None), *documents)
    assert off == documents


def test_pictures_alike_go_from_their_document_and_those_of_everywhere_from_all():
    document = Document("d", "t", (part(blobs(1)), Text("x"), part(blobs(1).resize((60, 60))), part(blobs(2))))
    lost, kept = decided(Dedup(), document)
    assert kept.parts == (document.parts[0], document.parts[1], document.parts[3])
    assert (lost.item, lost.rule, lost.whole, lost.reason) == ("d, part 2", "image_in_document", False, "looks like part 0")
    everywhere = [Document(f"d{n}", "t", (part(blobs(7)), Text(f"text {n}"))) for n in range(4)]
    alone = Document("alone", "t", (part(blobs(7)),))
    found = decided(Dedup(max_copies=4), *everywhere, alone)
    assert all(one.rule == "image_copies" for one in found if isinstance(one, Lost))
    assert [one.parts for one in found if isinstance(one, Document)] == [(Text(f"text {n}"),) for n in range(4)]
    assert [one.document for one in found if isinstance(one, Lost) and one.whole] == ["alone"]
    assert len([one for one in decided(Dedup(max_copies=5), *everywhere, alone) if isinstance(one, Document)]) == 5


def test_a_sentence_of_another_speaker_or_of_another_picture_is_no_duplicate():
    sentence = " ".join(words(3, 22))

    def spoken(name: str, data: bytes, text: str = sentence) -> Document:
        return Document(name, "t", (Speech(data, "flac", 8000, 1.0, text), Text(text)))

    speakers = [spoken(name, name.encode()) for name in ("ann", "bob", "cid")]
    again = spoken("ann's recording with another comma", b"ann", sentence.replace(" ", ", ", 1))
    pictured = [Document(f"picture {n}", "t", (part(blobs(n)), Text(sentence))) for n in range(3)]
    smaller = Document("picture 1, smaller", "t", (part(blobs(1).resize((64, 64))), Text(sentence + "!")))
    alone = [Document("text", "t", (Text(sentence),)), Document("text again", "t", (Text(sentence.upper()),))]
    found = decided(Dedup(ngram=3), *speakers, again, *pictured, smaller, *alone)
    lost = {one.document: (one.rule, one.reason.rpartition(" (")[0]) for one in found if isinstance(one, Lost)}
    assert lost == {
        again.id: ("near_text", "like ann"),
        smaller.id: ("near_text", "like picture 1"),
        "text again": ("near_text", "like text"),
    }


def test_of_documents_with_one_id_in_two_sets_only_the_second_goes(tmp_path):
    for name in "ab":
        with ShardWriter(tmp_path / name, built={}) as writer:
            writer.write(Document("one id", "t", (Text("same"),)))
    summary = curate(Dedup(), [str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "out"), RunConfig())
    assert summary.documents == 1 and summary.lost == {"exact": 1}


def test_shards_and_processes_change_nothing(tmp_path):
    documents = [
        Document(f"d{n}", "t", (Text(" ".join(words(n % 7))), part(blobs(n % 7)), part(blobs(n % 7 + 10)), Text(str(n))))
        for n in range(20)
    ]
    results = []
    for name, size, processes in (("a", 3, 1), ("b", 20, 2)):
        with ShardWriter(tmp_path / name, built={}, max_documents=size) as writer:
            for document in documents:
                writer.write(document)
        out = tmp_path / f"{name}-out"
        summary = curate(Dedup(ngram=3), [str(tmp_path / name)], str(out), RunConfig(processes=processes))
        assert summary.documents == 7 and summary.lost == {"near_text": 13} and lint(out) == []
        results.append((list(DocumentShards(out)), from_lines((out / "lost.jsonl").read_bytes())))
    assert results[0] == results[1]


def test_two_sets_are_one(tmp_path):
    for name, source in (("a", "x"), ("b", "y")):
        with ShardWriter(tmp_path / name, built={}) as writer:
            writer.write(Document(f"{name}1", source, (Text("same"),)))
            writer.write(Document(f"{name}2", source, (Text(f"own of {name}"),)))
    summary = curate(Dedup(), [str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "out"), RunConfig())
    assert [one.id for one in DocumentShards(tmp_path / "out")] == ["a1", "a2", "b2"] and summary.lost == {"exact": 1}


@pytest.mark.skipif(not GUIDES.is_dir(), reason="no guides beside the repository")
def test_real_pictures_are_found_again_after_what_the_web_does_to_them():
    paths = sorted((GUIDES / "grow-a-dragonfly" / "en" / "images").glob("*.png"))
    pictures = [Picture.open(path).convert("RGB") for path in paths]
    pictures = [picture for picture in pictures if min(picture.size) >= 100]
    hashes = [perceptual_hash(encode_png(picture)) for picture in pictures]
    found = total = 0
    for picture, before in zip(pictures, hashes, strict=True):
        for change in (
            lambda one: one,
            lambda one: one.resize((one.width // 2, one.height // 2)),
            lambda one: ImageEnhance.Brightness(one).enhance(1.1),
        ):
            buffer = io.BytesIO()
            change(picture).save(buffer, "JPEG", quality=50)
            found += (perceptual_hash(buffer.getvalue()) ^ before).bit_count() <= 5
            total += 1
    assert total >= 45 and found >= 0.9 * total
