"""The forms of the Hugging Face hub, as its own libraries write and read them."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.data.sources.hub_folder import HubFolder
from mmpt.data.sources.hub_rows import HubRows
from mmpt.data.sources.hub_tars import HubTars
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png, encode_wav

ROOT = Path(__file__).resolve().parents[2]


def png(value: int = 0) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def wav(frequency: int = 440) -> bytes:
    return encode_wav(np.sin(np.arange(1600) * frequency / 16000 * 2 * np.pi).astype(np.float32), 16000)


def read(**source) -> list:
    return list(documents(parse_config({"sources": [source]}, BuildConfig, "test")))


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


def write_rows(path: Path, columns: dict, **features) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return path


def snapshot(folder: Path, files: dict[str, Path]) -> Path:
    """A repository as `huggingface_hub.snapshot_download` leaves it in its cache: links into blobs."""
    root = folder / "datasets--someone--something"
    revision = root / "snapshots" / "0123abcd"
    (root / "blobs").mkdir(parents=True)
    for number, (name, path) in enumerate(files.items()):
        path.rename(root / "blobs" / f"{number:064x}")
        (revision / name).parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (3 + name.count("/") - 1)
        (revision / name).symlink_to(f"{up}blobs/{number:064x}")
        assert (revision / name).is_file()
    return revision


STRING, IMAGE = datasets.Value("string"), datasets.Image()
AUDIO = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}  # what Audio stores; to encode takes torchcodec


def test_pictures_and_sound_in_the_rows_of_a_snapshot(tmp_path):
    train = write_rows(
        tmp_path / "a.parquet",
        {
            "image": [{"bytes": png(n), "path": f"{n}.png"} for n in range(3)],
            "audio": [{"bytes": wav(400 + n), "path": f"{n}.wav"} for n in range(3)],
            "said": ["zero", "one", "two"],
            "caption": ["black", "dark", "darker"],
            "n": [0, 1, 2],
        },
        image=IMAGE, audio=AUDIO, said=STRING, caption=STRING, n=datasets.Value("int64"),
    )  # fmt: skip
    test = write_rows(tmp_path / "b.parquet", {"caption": ["held out"]}, caption=STRING)
    readme = tmp_path / "README.md"
    readme.write_text("---\nlicense: cc0-1.0\n---\n")
    folder = snapshot(tmp_path, {"README.md": readme, "data/train-00000.parquet": train, "data/test-00000.parquet": test})
    parts = [{"image": "image"}, {"text": "caption", "weight": 0.5}, {"audio": "audio", "transcript": "said"}]
    found = read(kind="hub_rows", rows=str(folder), files="data/train-.*", parts=parts, meta=["n"], license="cc0-1.0")
    assert [shape(one) for one in found] == [[png(n), text, wav(400 + n)] for n, text in enumerate(["black", "dark", "darker"])]
    assert found[1].parts[1].weight == 0.5 and found[1].meta == {"license": "cc0-1.0", "n": 1}
    assert isinstance(found[2].parts[2], Speech) and found[2].parts[2].text == "two"
    assert len({one.id for one in found}) == 3


def test_lists_of_pictures_and_lists_side_by_side(tmp_path):
    media = [{"bytes": png(1), "path": None}, None, {"bytes": b"no picture", "path": "x.png"}, {"bytes": png(2), "path": None}]
    path = write_rows(
        tmp_path / "x.parquet",
        {"images": [media], "texts": [[None, "between", None, "beside"]], "pair": [[{"bytes": png(3)}, {"bytes": png(4)}]]},
        images=datasets.List(IMAGE), texts=datasets.List(STRING), pair=datasets.List(IMAGE),
    )  # fmt: skip
    lost, found = read(kind="hub_rows", rows=str(path), parts=[{"image": "images", "text": "texts"}, {"image": "pair"}])
    assert shape(found) == [png(1), "between", png(2), "beside", png(3), png(4)]
    assert isinstance(lost, Lost) and "images 2" in lost.item and lost.document == found.id and lost.bad_part


def test_other_sources_of_rows_take_pictures_inside_too(tmp_path):
    media = [{"bytes": png(1), "path": None}, None, {"bytes": b"x", "path": "x.png"}]
    path = write_rows(
        tmp_path / "x.parquet",
        {"images": [media], "texts": [[None, "a", None]], "image": [{"bytes": png(2), "path": "b.png"}], "text": ["c"]},
        images=datasets.List(IMAGE), texts=datasets.List(STRING), image=IMAGE, text=STRING,
    )  # fmt: skip
    lost, found = read(kind="aligned_lists", rows=str(path), images=str(tmp_path))
    assert shape(found) == [png(1), "a"] and lost.item.endswith("place 2: x.png")
    (found,) = read(kind="image_text_table", table=str(path), images=str(tmp_path))
    assert shape(found) == [png(2), "c"]


def test_a_row_without_its_medium_is_no_document(tmp_path):
    path = write_rows(
        tmp_path / "x.parquet",
        {
            "image": [
                None,
                {"bytes": None, "path": "https://x.org/a.png"},
                {"bytes": None, "path": "../a.png"},
                {"bytes": png(), "path": None},
            ],
            "text": ["a", "b", "c", ""],
        },
        image=AUDIO, text=STRING,  # the same storage; Image itself would fetch the address
    )  # fmt: skip
    found = read(kind="hub_rows", rows=str(path), parts=[{"image": "image"}, {"text": "text"}])
    assert len(found) == 4 and all(isinstance(one, Lost) and one.whole for one in found)
    assert "not fetched" in found[1].reason and "no name of a file" in found[2].reason and "no text" in found[3].reason
    (lost,) = read(kind="hub_rows", rows=str(path), parts=[{"text": "caption"}])[:1]
    assert lost.reason == "no column 'caption' (there is image, text)"


def test_what_is_wrong_with_the_parts_is_told():
    for parts, message in (
        ([], "at least 1"),
        ([{"weight": 1}], "at least one of image, audio and text"),
        ([{"text": "a", "transcript": "b"}], "column of audio"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({"sources": [{"kind": "hub_rows", "rows": "x", "parts": parts}]}, BuildConfig, "test")
    with pytest.raises(ConfigError, match="matches 'data/x.*'"):
        HubRows(rows=str(ROOT / "datasets"), files="data/x.*", parts=[{"text": "a"}]).units()


def imagefolder(folder: Path) -> dict[str, str]:
    """A split in folders with a table each; the captions by the name of the picture's file."""
    texts = {"a.png": "first", "b c.png": "second", "deep/d.png": "third"}
    for number, name in enumerate(texts):
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / name).write_bytes(png(number))
    rows = [{"file_name": name, "text": text, "about": {"n": 1}} for name, text in texts.items()]
    (folder / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return texts


def test_an_imagefolder_as_datasets_loads_it(tmp_path):
    imagefolder(tmp_path / "set")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "c"), split="train")
    wanted = [
        [Path(row["image"]["path"]).read_bytes(), row["text"]]
        for row in loaded.cast_column("image", datasets.Image(decode=False))
    ]
    found = read(kind="hub_folder", folder=str(tmp_path / "set"), parts=[{"image": "image"}, {"text": "text"}], meta=["about"])
    assert [shape(one) for one in found] == wanted and len(wanted) == 3
    assert found[0].meta == {"about": {"n": 1}}


def test_an_audiofolder_with_a_csv(tmp_path):
    (tmp_path / "data").mkdir()
    for n in range(2):
        (tmp_path / "data" / f"{n}.wav").write_bytes(wav(500 + n))
    (tmp_path / "metadata.csv").write_text('file_name,transcription\ndata/0.wav,"zero, or none"\ndata/1.wav,one\n')
    found = read(kind="hub_folder", folder=str(tmp_path), parts=[{"audio": "audio", "transcript": "transcription"}])
    assert [(one.parts[0].data, one.parts[0].text) for one in found] == [(wav(500), "zero, or none"), (wav(501), "one")]


def test_other_columns_of_names_and_what_no_row_names(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    (tmp_path / "more.zip").write_bytes(b"PK")
    rows = [
        {"file_names": ["0.png", "1.png"], "depth_file_name": "2.png", "text": "x"},
        {"file_names": ["3.png", "gone.png"], "depth_file_name": "../2.png", "text": "y"},
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = [{"image": "images"}, {"image": "depth"}, {"text": "text"}]
    first, gone, out, left, archive = read(kind="hub_folder", folder=str(tmp_path), parts=parts)
    assert shape(first) == [png(0), png(1), png(2), "x"]
    assert "gone.png" in gone.reason and not gone.whole and out.whole and "no name of a file" in out.reason
    assert left.item.endswith("4.png") and left.rule == "not in a table"
    assert archive.item.endswith("more.zip") and archive.bad


def test_a_folder_without_a_table_has_labels(tmp_path):
    for n, label in enumerate(("cat", "cat", "dog")):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{n}.png").write_bytes(png(n))
    found = read(kind="hub_folder", folder=str(tmp_path), parts=[{"image": "image"}, {"text": "label"}])
    assert [shape(one) for one in found] == [[png(0), "cat"], [png(1), "cat"], [png(2), "dog"]]
    with pytest.raises(ConfigError, match=r"metadata\.csv"):
        HubFolder(folder=str(ROOT / "recipes"), parts=[{"image": "image"}]).units()


def test_a_webdataset_of_any_members(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "train-0.tar")) as writer:
        for n in range(3):
            about = {"caption": f"number {n}", "license": "x"}
            writer.write(
                {"__key__": f"{n}", "png" if n else "webp": png(n), "wav": wav(300 + n), "json": about, "txt": f"say {n}"}
            )
        writer.write({"__key__": "3", "txt": "alone"})
    (tmp_path / "test-0.tar").write_bytes(b"")
    parts = [{"image": "jpg;webp;png"}, {"text": "json.caption"}, {"audio": "wav", "transcript": "txt"}]
    *found, lost = read(kind="hub_tars", folder=str(tmp_path), files="train-.*", parts=parts, meta=["license"])
    assert [shape(one) for one in found] == [[png(n), f"number {n}", wav(300 + n)] for n in range(3)]
    assert found[0].parts[2].text == "say 0" and found[0].meta == {"license": "x"}
    assert lost.whole and lost.reason == "no column 'jpg;webp;png' (there is txt)"
    with pytest.raises(ConfigError, match="matches 'x.*'"):
        HubTars(folder=str(tmp_path), files="x.*", parts=parts).units()


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's interface that its file system asks for: a revision, trees, and files by ranges."""

    def __init__(self, folder: Path, asked: list[str], *arguments) -> None:
        self.folder, self.asked = folder, asked
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        files = sorted(one for one in self.folder.rglob("*") if one.is_file())
        if path.startswith("/api/datasets/someone/something/tree/"):
            below = path.removeprefix("/api/datasets/someone/something/tree/main").strip("/")
            names = [one.relative_to(self.folder) for one in files]
            tree = [
                {"type": "file", "path": str(name), "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                for name in names
                if str(name).startswith(below)
            ]
            folders = {str(parent) for name in names for parent in name.parents if str(parent) > below} - {"."}
            tree += [{"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders)]
            self.answer(json.dumps(tree).encode())
        elif path.startswith("/api/datasets/someone/something"):
            about = {"id": "someone/something", "sha": "0" * 40, "siblings": [], "tags": [], "private": False, "downloads": 0}
            self.answer(json.dumps(about | {"likes": 0, "gated": False, "disabled": False}).encode())
        elif "/resolve/" in path and (file := self.folder / path.partition("/resolve/main/")[2]).is_file():
            self.asked.append(self.headers.get("Range", "all"))
            self.answer(file.read_bytes())
        else:
            self.send_error(404)

    def answer(self, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        piece = data[int(first) : int(last) + 1 if last else None] if wanted else data
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("ETag", '"0"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(piece)

    def log_message(self, *_) -> None:
        pass


def built(tmp_path: Path, endpoint: str, *options: str) -> subprocess.CompletedProcess:
    """What datasets/build.py says of a specification with the address of a repository, the hub being at `endpoint`."""
    spec = tmp_path / "spec.yaml"
    source = "kind: hub_rows, rows: hf://datasets/someone/something, split: train, parts: [{image: image}, {text: text}]"
    spec.write_text(f"sources: [{{{source}}}]\n")
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    code = "import sys, runpy; from mmpt.data import store; store.ATTEMPTS = 2; sys.argv = sys.argv[1:]"
    code += "; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(ROOT / "datasets" / "build.py"), str(spec), str(tmp_path / "out"), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_the_address_of_a_repository_is_read_by_its_own_file_system(tmp_path):
    """Through `huggingface_hub.HfFileSystem`, against a server that answers as the hub does."""
    write_rows(
        tmp_path / "repo" / "data" / "train-00000.parquet",
        {"image": [{"bytes": png(n), "path": None} for n in range(3)], "text": ["a", "b", "c"]},
        image=IMAGE, text=STRING,
    )  # fmt: skip
    write_rows(tmp_path / "repo" / "data" / "held.parquet", {"text": ["held out"]}, text=STRING)
    (tmp_path / "repo" / "README.md").write_text(
        "---\nconfigs:\n- config_name: x\n  data_files: [{split: train, path: data/train-*}, {split: test, path: data/h*}]\n---\n"
    )
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, tmp_path / "repo", asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done = built(tmp_path, f"http://127.0.0.1:{server.server_address[1]}", "--processes", "1")
    server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one for one in asked if not one.startswith("bytes=")] == ["all"], "the README alone is read whole"
    found = read(kind="shards", folder=str(tmp_path / "out"))
    assert [shape(one) for one in found] == [[png(n), text] for n, text in enumerate("abc")]
    assert all(isinstance(one.parts[0], Image) for one in found)


def test_a_hub_that_does_not_answer_is_told(tmp_path):
    done = built(tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "hf://datasets/someone/something: ConnectError" in done.stderr and "after 2 attempts" in done.stderr
