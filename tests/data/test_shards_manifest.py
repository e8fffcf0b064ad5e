"""The manifest's records: what is read is what was written, and a manifest of the other kind or with a wrong field is told."""

import json

import pytest

from mmpt.data.shards.manifest import DocumentManifest, Manifest, TokenManifest, parse_manifest, read_manifest
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Text
from mmpt.errors import DataError


@pytest.fixture
def folder(tmp_path):
    with ShardWriter(tmp_path / "set", built={"by": "a test"}, max_documents=2) as writer:
        for number in range(3):
            writer.write(Document(f"d{number}", "s", (Text("one"), Text("two"))))
    return tmp_path / "set"


def test_counts_are_those_of_the_shards(folder):
    manifest = read_manifest(folder, DocumentManifest)
    content = json.loads((folder / "manifest.json").read_bytes())
    assert manifest.counts == content["parts"] == {"text": 6, "image": 0, "speech": 0}
    assert [one.model_dump() for one in manifest.shards] == content["shards"]
    assert manifest.bytes == sum(path.stat().st_size for path in folder.glob("*.tar")) and manifest.lost == {}
    assert read_manifest(folder) == manifest and isinstance(read_manifest(folder, Manifest), DocumentManifest)


def test_what_is_wrong_is_told_and_what_was_added_is_let_through(folder):
    content = json.loads((folder / "manifest.json").read_bytes())
    with pytest.raises(DataError, match="kind is 'documents', expected 'tokens'"):
        read_manifest(folder, TokenManifest)
    with pytest.raises(DataError, match=r"m: 1 mistake\n  shards.0.parts: missing"):
        shards = [{name: value for name, value in content["shards"][0].items() if name != "parts"}, content["shards"][1]]
        parse_manifest(json.dumps({**content, "shards": shards}).encode(), "m")
    with pytest.raises(DataError, match="do not add up"):
        parse_manifest(json.dumps({**content, "documents": 4}).encode(), "m")
    assert parse_manifest(json.dumps({**content, "note": "mine"}).encode(), "m").documents == 3
