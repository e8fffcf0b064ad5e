"""Nothing half-written under a final name; every change of a published folder is found."""

import json
import random

import pytest

from mmpt.errors import CheckpointError
from mmpt.storage import check_folder, published_folder, write_json


def publish(folder, content: dict[str, bytes]):
    with published_folder(folder, {"format": "test/1", "step": 3}) as temporary:
        for name, data in content.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(data)


def test_publish_and_check(tmp_path):
    publish(tmp_path / "a", {"x": b"1", "sub/y": b"22"})
    manifest = check_folder(tmp_path / "a", "test/1")
    assert manifest["step"] == 3 and set(manifest["files"]) == {"x", "sub/y"}
    publish(tmp_path / "a", {"z": b"3"})  # replaces
    assert set(check_folder(tmp_path / "a", "test/1")["files"]) == {"z"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path):
    publish(tmp_path / "a", {"x": b"old"})
    with pytest.raises(RuntimeError), published_folder(tmp_path / "a", {"format": "test/1"}) as temporary:
        (temporary / "x").write_bytes(b"new")
        raise RuntimeError
    assert (tmp_path / "a" / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_flipped_bit_is_found(tmp_path):
    publish(tmp_path / "a", {"x": bytes(range(256))})
    dice = random.Random(0)
    for _ in range(50):
        data = bytearray(range(256))
        data[dice.randrange(256)] ^= 1 << dice.randrange(8)
        (tmp_path / "a" / "x").write_bytes(data)
        with pytest.raises(CheckpointError, match="x: differs"):
            check_folder(tmp_path / "a", "test/1")


@pytest.mark.parametrize("damage", ["manifest", "file", "format", "folder", "json"])
def test_damage_is_named(tmp_path, damage):
    folder = tmp_path / "a"
    publish(folder, {"x": b"1"})
    if damage == "manifest":
        (folder / "manifest.json").unlink()
    elif damage == "file":
        (folder / "x").unlink()
    elif damage == "format":
        write_json(folder / "manifest.json", {**json.loads((folder / "manifest.json").read_text()), "format": "test/2"})
    elif damage == "json":
        (folder / "manifest.json").write_text('{"format": ')
    target = tmp_path / "b" if damage == "folder" else folder
    expected = {
        "manifest": r"manifest\.json is missing",
        "file": "x: missing",
        "format": "test/2",
        "folder": "no such",
        "json": "JSON",
    }
    with pytest.raises(CheckpointError, match=expected[damage]):
        check_folder(target, "test/1")


def test_json_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
