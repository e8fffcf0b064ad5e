"""SemDeDup of pictures: what goes is what comparing all with all gives; planted crops and other codecs are found."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image, encode_png

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("tower", ROOT / "datasets" / "benches" / "all_tools" / "tower.py")
tower = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tower)
BOOKS = ROOT.parent / "shared" / "data" / "textbooks"


def image(data: bytes) -> Image:
    found = Picture.open(io.BytesIO(data))
    return Image(data, (found.format or "png").lower().replace("jpeg", "jpg"), *found.size)


def blobs(seed: int) -> Picture.Image:
    """Eight by eight colours, made larger."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Picture.fromarray(pixels).resize((96, 80), Picture.Resampling.BICUBIC)


def jpeg(picture: Picture.Image, quality: int) -> bytes:
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=quality)
    return held.getvalue()


def planted(picture: Picture.Image) -> list[bytes]:
    """The same to the eye: a JPEG of low quality, a crop, a smaller one, a darker one."""
    width, height = picture.size
    crop = picture.crop((width // 50, height // 50, width, height - height // 50))
    darker = picture.point(lambda value: int(value * 0.8))
    return [jpeg(picture, 30), encode_png(crop), encode_png(picture.resize((width // 2, height // 2))), encode_png(darker)]


def write(folder: Path, documents: list[Document], most: int = 5) -> None:
    with ShardWriter(folder, built={}, max_documents=most) as writer:
        for one in documents:
            writer.write(one)


def step(folder: Path, **settings):
    section = {
        "kind": "dedup_semantic_pictures",
        "tower": tower.make(folder),
        "side": tower.SIDE,
        "keep": "first",
        "similarity": 0.98,
    }
    return parse_config(section | settings, Step, "test")


def squashed(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data).resize((tower.SIDE, tower.SIDE), Picture.Resampling.BICUBIC))


def by_brute_force(pictures: list[bytes], similarity: float) -> set[int]:
    """Each that is like any one before it, in float64."""
    vectors = np.stack([tower.vector(squashed(one)) for one in pictures])
    cosine = np.tril(vectors @ vectors.T, -1)
    assert np.abs(cosine - similarity).min() > 1e-5, "too near to call"
    return set(np.flatnonzero((cosine >= similarity).any(axis=1)).tolist())


def test_what_goes_is_what_comparing_all_with_all_gives(tmp_path):
    pictures = [one for seed in range(12) for one in (encode_png(blobs(seed)), *planted(blobs(seed)))]
    order = np.random.default_rng(0).permutation(len(pictures))
    documents = [
        Document(f"d{number}", "t", (Text("see"), image(pictures[at]), Text(f"picture {number}")))
        for number, at in enumerate(order)
    ]
    documents.insert(7, Document("text", "t", (Text("none here"),)))
    documents.insert(9, Document("broken", "t", (Image(b"no picture", "png", 1, 1),)))
    write(tmp_path / "in", documents)
    wanted = by_brute_force([pictures[at] for at in order], 0.98)
    assert len(wanted) == 48, "of each five one stays"
    for clusters, processes in ((1, 1), (1, 2)):
        out = tmp_path / f"out{clusters}{processes}"
        summary = curate(step(tmp_path / "m", clusters=clusters), [tmp_path / "in"], out, RunConfig(processes=processes))
        assert summary.lost == {"semantic": len(wanted)}
        found = {one.id: one for one in DocumentShards(out)}
        assert len(found) == len(documents), "texts stay, in order"
        assert {int(name[1:]) for name, one in found.items() if name[0] == "d" and len(one.parts) == 2} == wanted
        assert {one.reason[:5] for one in from_lines((out / "lost.jsonl").read_bytes())} == {"like "}
    assert (tmp_path / "out11" / "manifest.json").read_bytes() == (tmp_path / "out12" / "manifest.json").read_bytes()


def test_pairs_go_whole_and_earlier_runs_count(tmp_path):
    first, second = encode_png(blobs(1)), encode_png(blobs(2))
    write(
        tmp_path / "in",
        [
            Document("a", "t", (image(first), Text("one"))),
            Document("b", "t", (image(planted(blobs(1))[0]), Text("the same"))),
            Document("c", "t", (image(planted(blobs(1))[1]), image(second), Text("the same and another"))),
        ],
    )
    given = step(tmp_path / "m", whole=True)
    curate(given, [tmp_path / "in"], tmp_path / "out")
    assert {one.id: len(one.parts) for one in DocumentShards(tmp_path / "out")} == {"a": 2, "c": 2}
    lost = from_lines((tmp_path / "out" / "lost.jsonl").read_bytes())
    assert [(one.document, one.whole) for one in lost] == [("b", True), ("c", False)]
    assert "its pictures: like a, part 0 (cosine " in lost[0].reason
    late = [Document("late", "t", (image(planted(blobs(2))[0]),)), Document("new", "t", (image(encode_png(blobs(3))),))]
    write(tmp_path / "more", late)
    later = given.model_copy(update={"against": (f"{tmp_path}/out.vectors",)})
    curate(later, [tmp_path / "more"], tmp_path / "more-out")
    assert [one.id for one in DocumentShards(tmp_path / "more-out")] == ["new"]
    (gone,) = from_lines((tmp_path / "more-out" / "lost.jsonl").read_bytes())
    assert "like c, part 1" in gone.reason
    write(tmp_path / "texts", [Document("x", "t", (Text("no picture"),))])
    curate(later, [tmp_path / "texts"], tmp_path / "texts-out")
    assert [one.id for one in DocumentShards(tmp_path / "texts-out")] == ["x"]


def test_a_tower_that_learns_along_is_refused(tmp_path):
    section = {"kind": "dedup_semantic_pictures", "tower": {"patch": 8, "width": 8, "depth": 0, "heads": 1}, "side": 32}
    with pytest.raises(ConfigError, match="vit has no published weights"):
        parse_config(section, Step, "test")


def test_crops_and_codecs_of_real_pictures_are_found(tmp_path):
    if not BOOKS.is_dir():
        pytest.skip(f"no {BOOKS}")
    files = sorted((BOOKS / "us-history" / "media").glob("*.jpg"))[::12][:40]
    originals = [one.read_bytes() for one in files]
    copies = [one for data in originals for one in planted(decode_image(data))]
    alone = by_brute_force(originals, 0.98)
    documents = [Document(f"d{number}", "t", (image(data),)) for number, data in enumerate([*originals, *copies])]
    write(tmp_path / "in", documents, 64)
    curate(step(tmp_path / "m", clusters=4), [tmp_path / "in"], tmp_path / "out")
    left = {int(one.id[1:]) for one in DocumentShards(tmp_path / "out")}
    assert len(originals) == 40
    assert len(set(range(40)) - left - alone) == 0, "no original goes but for one that is like another"
    assert len(left & set(range(40, 200))) <= 0.1 * 160, "of the planted ones nine in ten go"
