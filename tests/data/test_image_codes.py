"""Pictures to lines of codes and back: what is read, what is listed, what is refused."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmpt.config import parse_config
from mmpt.data.codes_file import read_codes
from mmpt.data.image_codes import draw_codes, encode_pictures
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Text
from mmpt.document import Image as ImagePart
from mmpt.errors import ConfigError, DataError
from mmpt.media import encode_png
from mmpt.progress import progress_bars
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.tokenizer import ImageTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    content = {
        "side": 16,
        "tower": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
        "qformer": {"queries": 4, "width": 16, "depth": 1, "heads": 2},
        "quantizer": {"kind": "fsq", "levels": [4, 4]},
        "decoder": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    }
    torch.manual_seed(0)
    return ImageTokenizer(parse_config(content, ImageTokenizerConfig, "test")).eval()


@pytest.fixture
def progress():
    with progress_bars() as bars:
        yield bars


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def saved(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_every_kind_of_picture_is_encoded_or_listed(tokenizer, progress, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    frames = [noise(20, 20, seed) for seed in range(3)]
    turned = noise(9, 5).getexif()
    turned[0x0112] = 6
    good = {
        "cmyk.jpg": saved(noise(30, 20).convert("CMYK"), "JPEG"),
        "sixteen.png": saved(Image.fromarray(np.full((8, 8), 30_000, dtype=np.uint16)), "PNG"),
        "palette.png": saved(noise(12, 12).convert("P"), "PNG"),
        "alpha.png": saved(noise(12, 12).convert("RGBA"), "PNG"),
        "moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "turned.jpeg": saved(noise(9, 5), "JPEG", exif=turned),
        "thin.png": saved(noise(1, 10_000), "PNG"),
        "deep/small.webp": saved(noise(1, 1), "WEBP"),
    }
    bomb = bytearray(saved(Image.new("1", (20_000, 10_000)), "PNG"))
    bad = {
        "bomb.png": (bytes(bomb), "20000 x 10000|200000000 pixels"),
        "cut.jpg": (saved(noise(64, 64), "JPEG")[:700], "truncated|no picture"),
        "text.png": (b"this is no picture", "no picture that can be decoded"),
    }
    for name, data in {**good, **{name: data for name, (data, _) in bad.items()}}.items():
        (folder / name).write_bytes(data)
    speed = encode_pictures(tokenizer, folder, tmp_path / "out", progress)
    assert (speed.items, speed.lost, speed.skipped) == (len(good), len(bad), 0)
    assert {line["id"] for line in read_codes(tmp_path / "out/codes.jsonl")} == set(good)
    lost = {line["item"]: line["reason"] for line in map(json.loads, (tmp_path / "out/lost.jsonl").read_text().splitlines())}
    for name, (_, reason) in bad.items():
        assert any(part in lost[name] for part in reason.split("|")), lost[name]
    again = encode_pictures(tokenizer, folder, tmp_path / "out", progress)
    assert (again.items, again.lost, again.skipped) == (0, 0, len(good) + len(bad))


def test_pictures_of_shards_and_back(tokenizer, progress, tmp_path):
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number in range(3):
            part = ImagePart(encode_png(noise(20, 20, number)), "png", 20, 20, "noise")
            writer.write(Document(f"set/{number}", "set", (Text("before"), part)))
    encode_pictures(tokenizer, tmp_path / "shards", tmp_path / "out", progress)
    lines = list(read_codes(tmp_path / "out/codes.jsonl"))
    assert [line["id"] for line in lines] == ["set/0/1", "set/1/1", "set/2/1"]
    codes = np.array([line["codes"] for line in lines])
    assert np.array_equal(codes, tokenizer.encode([noise(20, 20, number) for number in range(3)]))
    assert draw_codes(tokenizer, tmp_path / "out", tmp_path / "drawn", progress).items == 3
    for line, expected in zip(lines, tokenizer.decode(codes), strict=True):
        assert Image.open(tmp_path / "drawn" / f"{line['id']}.png").tobytes() == expected.tobytes()
    (tmp_path / "drawn/set/1/1.png").unlink()
    assert draw_codes(tokenizer, tmp_path / "out", tmp_path / "drawn", progress).items == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "a", "codes": [1, 2, 3]}, "a: 3 codes, expected 4"),
        ({"id": "a", "codes": [1, 2, 3, 16]}, "codes run from 1 to 16"),
        ({"id": "../a", "codes": [1, 2, 3, 4]}, "no name of a file"),
    ],
)
def test_lines_that_cannot_be_drawn(tokenizer, progress, tmp_path, line, said):
    (tmp_path / "codes.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=said):
        draw_codes(tokenizer, tmp_path, tmp_path / "drawn", progress)


def test_nothing_to_encode_is_said(tokenizer, progress, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="neither document shards nor a file of .png"):
        encode_pictures(tokenizer, tmp_path / "in", tmp_path / "out", progress)
