"""What sources of rows share: a row becomes a document or is listed with the place where it lies and the id it would have had."""

import io
import json
import tarfile

import pytest

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.formats.row_parts import row_document, row_documents
from mmpt.data.lost import Lost
from mmpt.document import Document, Text
from mmpt.errors import DataError

EMPTY = {
    "hub_rows": {"texts": []},
    "mmc4": {"text_list": [""], "image_info": [], "similarity_matrix": []},
    "conversations": {"messages": "none"},
    "aligned_lists": {"images": [], "texts": []},
}
SETTINGS = {
    "hub_rows": {"files": ".*", "parts": [{"text": "texts"}]},
    "mmc4": {"images": "."},
    "conversations": {},
    "aligned_lists": {"images": "."},
}


def read(**source) -> list:
    return list(documents(parse_config({"sources": [source]}, BuildConfig, "test")))


@pytest.mark.parametrize("kind", EMPTY)
def test_a_row_of_nothing_is_listed_with_its_place_and_its_id(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(EMPTY[kind]) + "\nno JSON\n")
    empty, damaged = read(kind=kind, rows=str(path), name="set", **SETTINGS[kind])
    where = f"{path}, byte 0"
    assert (empty.item, empty.document, empty.whole, empty.rule) == (where, "set/rows.jsonl, byte 0", True, "")
    assert kind == "conversations" or empty.reason == "nothing in it"
    assert damaged.whole and damaged.document == ""


def test_a_sample_of_a_tar_is_listed_likewise(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("k.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    for kind, settings in (("hub_tars", {"parts": [{"text": "txt"}]}), ("image_text_tars", {})):
        (lost,) = read(kind=kind, folder=str(tmp_path), name="set", **settings)
        assert (lost.item, lost.document, lost.whole) == (f"{tmp_path}/a.tar: k", "set/a/k", True)


def test_what_was_lost_of_a_row_before_it_failed_is_listed_first():
    def make(where: str, document_id: str, row: int):
        yield Lost(f"{where}, part", "bad", document_id, whole=False)
        if row:
            raise DataError("and the rest, too")
        yield row_document(document_id, "s", [Text("x")], {})

    rows = [("a", "s/a", 0), Lost("b", "damaged"), ("c", "s/c", 1)]
    found = list(row_documents(rows, make))
    assert found == [
        Lost("a, part", "bad", "s/a", whole=False),
        Document("s/a", "s", (Text("x"),), {}),
        Lost("b", "damaged"),
        Lost("c, part", "bad", "s/c", whole=False),
        Lost("c", "and the rest, too", "s/c"),
    ]
    with pytest.raises(DataError, match="nothing in it"):
        row_document("s/a", "s", [], {})
