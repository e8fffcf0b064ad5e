"""Tars of pictures and captions: pairs as img2dataset writes them, and never a wrong pair however they are damaged."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.sources import image_text_tars
from mmpt.data.sources.image_text_tars import ImageTextTarsConfig
from mmpt.document import Document
from mmpt.errors import ConfigError
from mmpt.media import decode_image, encode_png


def png(number: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)))


def read(folder: Path) -> list:
    config = ImageTextTarsConfig(folder=str(folder))
    return [one for unit in image_text_tars.units(config) for one in image_text_tars.read(config, unit)]


def add(tar: tarfile.TarFile, name: str, data: bytes, **changes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in changes.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def test_tars_as_webdataset_writes_them(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as writer:
        for number in range(3):
            record = {"caption": f"caption {number}", "url": f"https://x.org/{number}", "width": 8, "sha256": "0"}
            sample = {"__key__": f"00000000{number}", "png": png(number), "json": json.dumps(record).encode()}
            if number < 2:
                sample["txt"] = f"caption {number}".encode()
            writer.write(sample)
    found = read(tmp_path)
    assert [document.id for document in found] == [f"{tmp_path.name}/00000/00000000{number}" for number in range(3)]
    for number, document in enumerate(found):
        picture, text = document.parts
        assert picture.data == png(number) and text.text == picture.alt == f"caption {number}"
        assert document.meta["url"] == f"https://x.org/{number}"


def test_what_is_no_whole_sample_is_listed(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "0.png", png(0))
        add(tar, "0.txt", b"zero")
        add(tar, "1.png", png(1))
        add(tar, "2.txt", b"two")
        add(tar, "3.png", b"")
        add(tar, "3.txt", b"three")
        add(tar, "0.png", png(9))
        add(tar, "0.txt", b"again")
        add(tar, "4.png", png(4))
        add(tar, "4.txt", b"\xff\xfe")
        add(tar, "../5.png", png(5))
        add(tar, "../5.txt", b"five")
        add(tar, "6.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "6.txt", b"six")
        add(tar, "7.png", png(7))
        add(tar, "7.jpg", png(7))
        add(tar, "7.txt", b"seven")
        add(tar, "8.txt", b"eight")
        add(tar, "8.png", png(8))
    found = read(tmp_path)
    assert [one.id.rpartition("/")[2] for one in found if isinstance(one, Document)] == ["8"]
    lost = {one.item.rpartition(": ")[2]: one.reason for one in found if isinstance(one, Lost)}
    for key, reason in [
        ("1", "no caption"), ("2", "0 pictures"), ("3", "0 bytes"), ("0", "there 2 times"), ("4", "utf-8"),
        ("../5", "leads out"), ("6", "link"), ("7", "2 pictures"),
    ]:  # fmt: skip
        assert reason in lost[key], (key, lost)


@pytest.mark.parametrize("seed", range(4))
def test_damage_never_makes_a_wrong_pair_and_what_is_missing_is_listed(tmp_path, seed):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(20):
            add(tar, f"{number:03d}.png", png(number))
            add(tar, f"{number:03d}.txt", f"number {number}".encode())
    sound = buffer.getvalue()
    draw = random.Random(seed)
    for _ in range(60):
        data = bytearray(sound)
        unit = draw.choice([1, 512])
        start = draw.randrange(len(sound) // unit - 20) * unit
        end = start + draw.randint(1, 8) * unit
        kind = draw.choice(["truncate", "delete", "duplicate", "zero", "header"])
        if kind == "truncate":
            data = data[:start]
        elif kind == "delete":
            del data[start:end]
        elif kind == "duplicate":
            data[end:end] = data[start:end]
        elif kind == "zero":
            data[start:end] = bytes(end - start)
        else:
            data[start // 512 * 512 + draw.randrange(512)] ^= 0xFF
        (tmp_path / "x.tar").write_bytes(data)
        found = read(tmp_path)
        for one in found:
            if isinstance(one, Document):
                picture, text = one.parts
                assert one.id.endswith(f"/{int(np.asarray(decode_image(picture.data))[0, 0, 0]):03d}")
                # A tar has no checksums of content, so a caption may be spoilt; but it is never another picture's.
                spoilt = text.text != f"number {int(one.id[-3:])}"
                assert not (spoilt and text.text in {f"number {number}" for number in range(20)}), (kind, start, end)
        missing = 20 - sum(isinstance(one, Document) for one in found)
        # What is cut off between two samples, or turned into what ends a tar, leaves no trace in a tar by itself.
        if missing > 0 and not (kind in ("truncate", "delete", "zero") and (start % 2048 == end % 2048 == 0 or end > 20 * 2048)):
            assert any(isinstance(one, Lost) for one in found), (kind, start, end)


def test_a_folder_without_tars_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="no .tar"):
        read(tmp_path)
