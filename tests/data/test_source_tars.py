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
from mmpt.data.sources import aligned_lists
from mmpt.data.sources.image_text_tars import ImageTextTars
from mmpt.document import Document, Image
from mmpt.errors import ConfigError
from mmpt.media import decode_image, encode_png


def png(number: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)))


def read(folder: Path) -> list:
    config = ImageTextTars(folder=str(folder))
    return list(config.documents())


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
        add(tar, "9.png", png(9))
        add(tar, "9.txt", b"nine")
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
        ("../5", "leads out"), ("6", "link"), ("7", "2 pictures"), ("9", "a key of before"),
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


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_in_extended_headers_are_whole(tmp_path, form):
    """Without them "é" and "è", or two names alike in their first hundred characters, would be one sample."""
    long = "k" * 120
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        add(tar, "é.png", png(1), mtime=1.5)
        add(tar, "è.txt", b"of another picture", mtime=1.5)
        add(tar, "._b.png", png(2))
        for key in ("1", "2"):
            add(tar, f"{long}{key}.png", png(int(key)))
            add(tar, f"{long}{key}.txt", key.encode())
        add(tar, f"{long}3.png", png(3))
        add(tar, f"{long}4.txt", b"of another picture")
    found = read(tmp_path)
    documents = [one for one in found if isinstance(one, Document)]
    assert [(one.id[-2:], one.parts[0].data, one.parts[1].text) for one in documents] == [
        ("k1", png(1), "1"),
        ("k2", png(2), "2"),
    ]
    lost = [one.item.rpartition(": ")[2].lstrip("k") for one in found if isinstance(one, Lost)]
    assert lost == ["._b.png", "é", "è", "3", "4"]


def test_a_damaged_extended_header_costs_the_samples_beside_it(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            add(tar, f"{'é' * (number + 1)}.png", png(number))
            add(tar, f"{'é' * (number + 1)}.txt", str(number).encode())
    data = (tmp_path / "a.tar").read_bytes()
    at = data.index("path=éé.png".encode())
    (tmp_path / "a.tar").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    found = read(tmp_path)
    assert [one.parts[1].text for one in found if isinstance(one, Document)] == ["2"]
    assert any("damaged extended header" in one.reason for one in found if isinstance(one, Lost))


def test_numbers_that_json_cannot_hold_leave_the_sample(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.png", png(1))
        add(tar, "1.json", b'{"caption": "one", "punsafe": NaN, "similarity": 0.3}')
        add(tar, "2.png", png(2))
        add(tar, "2.json", b"[" * 100_000)
    document, lost = read(tmp_path)
    assert document.meta == {"similarity": 0.3} and "not valid JSON" in lost.reason


def test_interleaved_samples_of_energon(tmp_path):
    with tarfile.open(tmp_path / "shard_0.tar", "w") as tar:
        add(
            tar, "a.json", json.dumps({"images": [None, "0.png", "none.png", None], "texts": ["one", None, None, "two"]}).encode()
        )
        add(tar, "a.0.png", png(1))
        add(tar, "b.0.png", png(2))
        add(tar, "c.json", json.dumps({"images": ["../a.0.png"], "texts": [None]}).encode())
        add(tar, "d.json", b"[]")
    config = aligned_lists.AlignedLists(rows=str(tmp_path), name="e")
    found = list(config.documents())
    (document,) = [one for one in found if isinstance(one, Document)]
    assert document.id == "e/shard_0/a"
    assert [part.data if isinstance(part, Image) else part.text for part in document.parts] == ["one", png(1), "two"]
    lost = [(one.document[-1], one.reason) for one in found if isinstance(one, Lost)]
    expected = [
        ("a", "no such member"),
        ("b", "no member json"),
        ("c", "no such member"),
        ("c", "nothing in it"),
        ("d", "an object"),
    ]
    assert len(lost) == 5 and all(a == key and reason in b for (a, b), (key, reason) in zip(lost, expected, strict=True))


def test_a_size_below_zero_ends_nothing(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "1.png", png(1))
        add(tar, "1.txt", b"one")
    header = bytearray(tarfile.TarInfo("0.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(-512, 12, tarfile.GNU_FORMAT)
    header[148:155] = b"%06o\0" % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "a.tar").write_bytes(bytes(header) + (tmp_path / "a.tar").read_bytes())
    damage, document = read(tmp_path)
    assert "a size below 0" in damage.reason and document.parts[1].text == "one"


def test_tars_of_other_systems_are_read_as_tarfile_reads_them(tmp_path):
    """macOS writes extended attributes, which are bytes, into pax records; older systems names in Latin-1."""

    def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
        info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
        info.size, info.type = size, kind
        return info.tobuf(tarfile.USTAR_FORMAT, errors="surrogateescape")

    def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
        return header(name, len(data), kind) + data + bytes(-len(data) % 512)

    def record(key: bytes, value: bytes) -> bytes:
        length = len(key) + len(value) + 3
        while len(str(length)) + len(key) + len(value) + 3 != length:
            length = len(str(length)) + len(key) + len(value) + 3
        return str(length).encode() + b" " + key + b"=" + value + b"\n"

    attribute = record(b"SCHILY.xattr.com.apple.provenance", b"\x01\x02\x00\xa9\x8e\xf1=\n\x82\x10")
    binary = record(b"hdrcharset", b"BINARY") + record(b"path", b"n\xefve.png")
    data = b"".join([
        member(b"PaxHeader/0.png", attribute, b"x"), member(b"0.png", png(0)),
        member(b"PaxHeader/0.txt", attribute, b"x"), member(b"0.txt", b"zero"),
        member(b"caf\xe9.png", png(1)), member(b"caf\xe9.txt", b"one"),
        member(b"PaxHeader/2", binary, b"x"), member(b"2.png", png(2)), member(b"n\xefve.txt", b"two"),
    ])  # fmt: skip
    (tmp_path / "a.tar").write_bytes(data + bytes(1024))
    with tarfile.open(tmp_path / "a.tar", encoding="utf-8") as tar:
        expected = [name.removesuffix(".png") for name in tar.getnames() if name.endswith(".png")]
    found = read(tmp_path)
    assert [one.id.rpartition("/")[2] for one in found] == expected == ["0", "caf\udce9", "n\udcefve"]
    assert [(one.parts[0].data, one.parts[1].text) for one in found] == [(png(0), "zero"), (png(1), "one"), (png(2), "two")]
