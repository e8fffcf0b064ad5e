"""The `manifest.json` of a set of shards: what the set is, how it was built, and the SHA-256 and counts of every shard.

It is written last, so a folder without one is no finished set.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from mmpt.config import parse_config
from mmpt.data.shards.index import Index, decode_index
from mmpt.data.shards.sample import decode_json
from mmpt.errors import ConfigError, DataError
from mmpt.storage import MANIFEST
from mmpt.vocabulary import MODALITIES

FORMAT = "mmpt-shards/2"
COLUMNS = {"documents": ("text", "image", "speech"), "tokens": MODALITIES}
"""Kind of a set → what its index counts for each document."""
COUNTED = {"documents": "parts", "tokens": "tokens"}
"""Kind of a set → name of those counts in the manifest."""

_Count = Annotated[int, pydantic.Field(ge=0)]
_Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(pydantic.BaseModel):
    sha256: _Sha256
    bytes: _Count


class _Shard(_Entry):
    name: Annotated[str, pydantic.Field(pattern=r"^shard(-\d{5,}){1,2}\.tar$")]
    documents: _Count


class _DocumentShard(_Shard):
    parts: dict[Literal[COLUMNS["documents"]], _Count]


class _TokenShard(_Shard):
    tokens: dict[Literal[COLUMNS["tokens"]], _Count]


class _Manifest(pydantic.BaseModel):
    documents: _Count
    built: dict
    files: dict[str, _Entry]


class _DocumentManifest(_Manifest):
    shards: list[_DocumentShard]


class _TokenManifest(_Manifest):
    shards: list[_TokenShard]
    vocabulary: _Sha256


def read_manifest(folder: Path, kind: str | None = None) -> dict:
    """The manifest of a set of shards, its fields checked. `kind` is the one expected, None for either.

    Raises `DataError`, naming the folder or each field, where it is missing, of another format or kind, or incomplete.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder}: {MANIFEST} is missing, so this is no finished set of shards")
    return parse_manifest(path.read_bytes(), str(path), kind)


def parse_manifest(data: bytes, name: str, kind: str | None = None) -> dict:
    """The manifest in the bytes of its file `name`. Raises `DataError` as `read_manifest` does."""
    try:
        manifest = decode_json(data)
    except DataError as problem:
        raise DataError(f"{name}: {problem}") from None
    if manifest.get("format") != FORMAT:
        raise DataError(f"{name}: format is {manifest.get('format')!r}, expected {FORMAT!r}")
    found, expected = manifest.get("kind"), (kind,) if kind else tuple(COLUMNS)
    if found not in expected:
        raise DataError(f"{name}: kind is {found!r}, expected {' or '.join(map(repr, expected))}")
    try:
        parse_config(manifest, {"documents": _DocumentManifest, "tokens": _TokenManifest}[found], name)
    except ConfigError as problem:
        raise DataError(str(problem)) from None
    if manifest["documents"] != sum(shard["documents"] for shard in manifest["shards"]):
        raise DataError(f"{name}: documents is {manifest['documents']}, but the shards' do not add up to it")
    return manifest


def index_name(shard: str) -> str:
    """`shard-00000.tar` → `shard-00000.index.safetensors`."""
    return shard.removesuffix(".tar") + ".index.safetensors"


def check_index(data: bytes, manifest: dict, shard: dict, name: str) -> Index:
    """The index of one shard of the set from the bytes of its file, after comparing it with the manifest.

    Raises `DataError`, beginning with `name`, where anything differs.
    """
    if hashlib.sha256(data).hexdigest() != manifest["files"].get(index_name(shard["name"]), {}).get("sha256"):
        raise DataError(f"{name}: differs from the hash in {MANIFEST}")
    index = decode_index(data, len(COLUMNS[manifest["kind"]]), name)
    if len(index) != shard["documents"] or index.tar_bytes != shard["bytes"]:
        raise DataError(f"{name}: an index of {len(index)} documents in {index.tar_bytes} bytes, but {MANIFEST} says "
                        f"{shard['documents']} in {shard['bytes']}")  # fmt: skip
    return index


def open_index(folder: Path, manifest: dict, shard: dict) -> Index:
    """Index of one shard of the set in `folder`. Raises `DataError` naming the file that is missing or differs."""
    path = Path(folder) / index_name(shard["name"])
    try:
        return check_index(path.read_bytes(), manifest, shard, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None


def check_size(folder: Path, shard: dict) -> None:
    """Raise `DataError`, naming the shard and both sizes, unless its tar is as long as the manifest says."""
    path = Path(folder) / shard["name"]
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = path.stat().st_size
    if found != shard["bytes"]:
        raise DataError(f"{path}: {found} bytes, expected {shard['bytes']}{': cut short' if found < shard['bytes'] else ''}")
