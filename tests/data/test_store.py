"""A store keeps to its folder, writes whole files, and says what it could not do."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mmpt.data.build import BuildConfig, documents
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


def test_no_name_leads_out_of_the_folder_and_nothing_is_written_by_way_of_a_link(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "inside" / "file").write_text("file")
    (tmp_path / "inside" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "inside" / "folder").symlink_to(tmp_path)
    (tmp_path / "inside" / "alias").symlink_to("file")
    store = Store(tmp_path / "inside")
    assert store.read("alias") == b"file"
    for name in ("../secret", "/etc/passwd", "a/../../secret", "", "a\\b", "x\0", "half \ud83d"):
        for operation in (store.read, store.exists, lambda one: store.write(one, b"x")):
            with pytest.raises(DataError, match="no name of a file"):
                operation(name)
    for name in ("out", "folder/secret"):
        for operation in (store.remove, lambda one: store.write(one, b"x"), lambda one: store.put(one, tmp_path / "secret")):
            with pytest.raises(DataError, match="leads out"):
                operation(name)
    assert (tmp_path / "secret").read_text() == "secret"


def test_links_of_the_folder_are_followed_each_folder_once(tmp_path):
    """A snapshot in the hub's cache, a folder on another disk, and links that lead in circles or nowhere."""
    for name in ("blobs/1a2b", "disk/more/x.tar", "snapshots/abc/data/own.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    snapshot = tmp_path / "snapshots" / "abc"
    (snapshot / "data" / "train.parquet").symlink_to("../../../blobs/1a2b")
    (snapshot / "disk").symlink_to(tmp_path / "disk")
    (snapshot / "disk again").symlink_to(tmp_path / "disk" / "more")
    (snapshot / "data" / "up").symlink_to("..")
    (snapshot / "itself").symlink_to("itself")
    (snapshot / "nowhere.md").symlink_to("none")
    store = Store(snapshot)
    assert store.files() == {
        "data/own.txt": 26, "data/train.parquet": 10, "disk/more/x.tar": 15, "itself": 0, "nowhere.md": 0,
    }  # fmt: skip
    assert store.read("data/train.parquet") == b"blobs/1a2b" and store.read("disk/more/x.tar") == b"disk/more/x.tar"
    with pytest.raises(DataError, match="nowhere.md: no such file"):
        store.read("nowhere.md")
    with pytest.raises(DataError, match="itself"):
        store.read("itself")


def test_a_web_server_that_lists_names_alone_is_read(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.jsonl", "sub/b c.txt"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
    (tmp_path / "empty.jsonl").write_bytes(b"")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        location = f"http://127.0.0.1:{server.server_address[1]}"
        sizes = Store(location).files()
        assert (sizes["a.jsonl"], sizes["empty.jsonl"], len(sizes)) == (20, 0, 3)
        config = BuildConfig.model_validate({"sources": [{"kind": "plain_text", "path": location, "name": "web"}]})
        assert sorted(one.parts[0].text.strip() for one in documents(config)) == ["a.jsonl", '{"text": "sub/b c.txt"}']
    finally:
        server.shutdown()
        server.server_close()


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        Store(tmp_path / "none").files()
    with pytest.raises(DataError, match="cannot be opened"):
        Store("nosuchprotocol://x")
