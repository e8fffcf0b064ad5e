"""Rows of addresses joined with what img2dataset 1.47.0 itself downloaded: six pictures and one that was gone, in two pieces."""

import json
import shutil
from pathlib import Path

import pytest

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.formats.downloads import Downloads
from mmpt.data.lost import Lost
from mmpt.data.sources.aligned_lists import AlignedLists
from mmpt.data.sources.mmc4 import Mmc4
from mmpt.document import Image, Text
from mmpt.errors import ConfigError, DataError

DOWNLOADED = Path(__file__).parent / "img2dataset"
FORMS = ("webdataset", "files", "parquet")
URL = "http://127.0.0.1:8923/{0}.jpg?a=%C3%A9&n={0}"
GONE = "http://127.0.0.1:8923/gone.jpg"


def picture(number: int) -> bytes:
    return (DOWNLOADED / "web" / f"{number}.jpg").read_bytes()


def read(**source) -> list:
    return list(documents(parse_config({"sources": [source]}, BuildConfig, "test")))


def rows(path: Path, *found: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_addresses_find_their_pictures_in_order(tmp_path, form):
    other = "https://elsewhere.org/a.png"
    path = rows(
        tmp_path / "obelics.jsonl",
        {"images": [None, URL.format(5), GONE, URL.format(0), None], "texts": ["a", None, None, None, "b"], "metadata": "[]"},
        {"image_list": [URL.format(3), None, other], "text_list": [None, "c", None], "URL": "http://x"},
    )
    gone, first, absent, second = read(kind="aligned_lists", rows=path, downloads=str(DOWNLOADED / form))
    assert [part.text if isinstance(part, Text) else part.data for part in first.parts] == ["a", picture(5), picture(0), "b"]
    assert [part.text if isinstance(part, Text) else part.data for part in second.parts] == [picture(3), "c"]
    assert isinstance(gone, Lost) and gone.bad_part and GONE in gone.item and "404" in gone.reason
    assert isinstance(absent, Lost) and other in absent.item and absent.reason == "no such address in the download"


@pytest.mark.parametrize("form", FORMS)
def test_every_address_gives_its_own_picture(form):
    found = Downloads(str(DOWNLOADED / form))
    assert [found.read(URL.format(number)) for number in range(6)] == [picture(number) for number in range(6)]


def test_mmc4_by_the_address_of_each_picture(tmp_path):
    infos = [{"image_name": "x.png", "raw_url": URL.format(2)}, {"image_name": "y.png", "raw_url": GONE}]
    row = {"text_list": ["a", "b"], "image_info": infos, "similarity_matrix": [[0.1, 0.9], [0.8, 0.1]], "url": "http://x"}
    lost, found = read(kind="mmc4", rows=rows(tmp_path / "mmc4.jsonl", row), downloads=str(DOWNLOADED / "webdataset"))
    assert [type(part) for part in found.parts] == [Text, Image, Text] and found.parts[1].data == picture(2)
    assert GONE in lost.item and lost.bad_part
    with pytest.raises(ConfigError, match="either images or downloads"):
        read(kind="mmc4", rows=str(tmp_path / "mmc4.jsonl"))


def test_a_damaged_tar_gives_no_picture_of_another(tmp_path):
    shutil.copytree(DOWNLOADED / "webdataset", tmp_path / "set")
    tar = tmp_path / "set" / "00000.tar"
    data = tar.read_bytes()
    for cut in range(0, len(data), 1024):
        tar.write_bytes(data[:cut] + data[cut + 512 + 7 :])
        found = Downloads(str(tmp_path / "set"))
        for number in range(4):
            try:
                got = found.read(URL.format(number))
            except DataError:
                continue
            others = [picture(other) for other in range(6) if other != number]
            assert got not in others


def test_a_folder_without_a_download_is_told(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match=r"no \.parquet in it"):
        AlignedLists(rows=rows(tmp_path / "a.jsonl", {}), downloads=str(tmp_path / "x")).units()
    with pytest.raises(ConfigError, match="no such folder"):
        Mmc4(rows=str(tmp_path / "a.jsonl"), downloads=str(tmp_path / "y")).units()
