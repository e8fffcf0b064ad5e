"""A store keeps to its folder, writes whole files, and says what it could not do."""

import pytest

from mmpt.data.store import Store
from mmpt.errors import DataError


@pytest.mark.parametrize("remote", [False, True])
def test_files_are_written_listed_and_read(tmp_path, remote):
    store = Store(f"memory://store-test-{tmp_path.name}/x" if remote else tmp_path)
    for name in ("b/two.txt", "a.txt", "b/c/three.txt"):
        store.write(name, name.encode())
    assert store.files() == {"a.txt": 5, "b/c/three.txt": 13, "b/two.txt": 9}
    assert store.read("b/two.txt") == b"b/two.txt" and store.read_range("b/two.txt", 2, 5) == b"two"
    assert store.exists("a.txt") and not store.exists("none") and store.size("a.txt") == 5
    store.download("a.txt", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"a.txt"
    store.put("moved", tmp_path / "copy")
    assert store.read("moved") == b"a.txt" and not (tmp_path / "copy").exists()
    store.remove("b")
    store.remove("none")
    assert list(store.files()) == ["a.txt", "moved"]
    with pytest.raises(DataError, match="none: no such file"):
        store.read("none")


def test_nothing_outside_the_folder_is_reached(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "inside" / "file").write_text("file")
    (tmp_path / "inside" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "inside" / "folder").symlink_to(tmp_path)
    (tmp_path / "inside" / "alias").symlink_to("file")
    store = Store(tmp_path / "inside")
    assert list(store.files()) == ["alias", "file"] and store.read("alias") == b"file"
    for name in ("../secret", "/etc/passwd", "out", "folder/secret", "a/../../secret", "", "a\\b", "x\0"):
        for operation in (store.read, store.exists, lambda one: store.write(one, b"x")):
            with pytest.raises(DataError, match="no name of a file|leads out"):
                operation(name)
    assert (tmp_path / "secret").read_text() == "secret"


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        Store(tmp_path / "none").files()
    with pytest.raises(DataError, match="cannot be opened"):
        Store("nosuchprotocol://x")
