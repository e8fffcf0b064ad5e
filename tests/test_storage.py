"""Nothing half-written under a final name; every change of a published folder is found."""

import json
import random

import pytest

from mmpt import storage
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


def test_every_flipped_bit_of_the_manifest_is_found(tmp_path):
    publish(tmp_path / "a", {"x": b"1"})
    path = tmp_path / "a" / "manifest.json"
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError):
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


def test_linked_files_take_no_room_and_keep_their_hashes(tmp_path, monkeypatch):
    publish(tmp_path / "base", {"x": b"1" * 1000, "sub/y": b"22"})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "z").symlink_to(tmp_path / "base" / "x")  # as in a cache of Hugging Face
    storage.link_tree(tmp_path / "base", tmp_path / "linked")
    storage.link_tree(tmp_path / "cache", tmp_path / "linked" / "more")
    for name in ("x", "sub/y"):
        assert (tmp_path / "linked" / name).samefile(tmp_path / "base" / name)
    assert not (tmp_path / "linked" / "more" / "z").is_symlink()
    known = {f"part/{name}": entry for name, entry in storage.check_folder(tmp_path / "base", "test/1")["files"].items()}
    hashed = []
    plain = storage.sha256
    monkeypatch.setattr(storage, "sha256", lambda path: (hashed.append(path.name), plain(path))[1])
    with storage.published_folder(tmp_path / "whole", {"format": "test/1"}, known) as folder:
        storage.link_tree(tmp_path / "base", folder / "part")
        (folder / "own").write_bytes(b"3")
    assert sorted(hashed) == ["manifest.json", "own"]
    assert set(storage.check_folder(tmp_path / "whole", "test/1")["files"]) == {"own", "part/manifest.json", *known}
    monkeypatch.setattr(storage.os, "link", lambda *names: (_ for _ in ()).throw(OSError("another device")))
    storage.link_tree(tmp_path / "base", tmp_path / "copied")
    assert (tmp_path / "copied" / "x").read_bytes() == b"1" * 1000
    assert not (tmp_path / "copied" / "x").samefile(tmp_path / "base" / "x")
