"""The `manifest.json` of a set of shards: what the set is, how it was built, and the SHA-256 and counts of every shard.

It is written last, so a folder without one is no finished set.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import pydantic

from mmpt.config import Schema, parse_config
from mmpt.data.shards.index import Index, decode_index
from mmpt.data.shards.sample import decode_json
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError
from mmpt.modality import Modality
from mmpt.storage import MANIFEST
from mmpt.vocabulary import MODALITIES

FORMAT = "mmpt-shards/2"
Kind = Literal["documents", "tokens"]
"""What a set of shards holds."""
COLUMNS: dict[Kind, tuple[str, ...]] = {"documents": get_args(Modality), "tokens": MODALITIES}
"""Kind of a set → what its index counts for each document."""
COUNTED: dict[Kind, str] = {"documents": "parts", "tokens": "tokens"}
"""Kind of a set → name of those counts in the manifest."""

_Count = Annotated[int, pydantic.Field(ge=0)]
_Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(Schema):
    """Of a file that a later version may have written with more in it, or in which a person has noted something."""

    model_config = pydantic.ConfigDict(extra="ignore")


class FileEntry(_Record):
    """What the manifest says of a file of the set."""

    sha256: _Sha256
    """SHA-256 of its content, in hexadecimal digits."""
    bytes: _Count
    """Its size."""


class ShardEntry(_Record):
    """What the manifest says of a shard."""

    kind: ClassVar[Kind]
    name: Annotated[str, pydantic.Field(pattern=r"^shard(-\d{5,}){1,2}\.tar$")]
    """Name of its tar."""
    sha256: _Sha256
    """SHA-256 of the tar, in hexadecimal digits."""
    bytes: _Count
    """Size of the tar."""
    documents: _Count
    """Documents in it."""

    @property
    def counts(self) -> dict[str, int]:
        """What its documents hold, by the names in `COLUMNS`."""
        return getattr(self, COUNTED[self.kind])


class DocumentShard(ShardEntry):
    """A shard of documents."""

    kind: ClassVar[Kind] = "documents"
    parts: dict[Modality, _Count]
    """Parts by modality."""


class TokenShard(ShardEntry):
    """A shard of token sequences."""

    kind: ClassVar[Kind] = "tokens"
    tokens: dict[Literal["text", "special", "image", "speech"], _Count]
    """Tokens by modality."""


class Origin(_Record):
    """What a set keeps of one that it was made of, so that it can be told when that one is gone."""

    place: str
    """Path or URL, as it was given."""
    fingerprint: _Sha256
    """That of its shards."""
    documents: _Count
    """Documents in it."""
    counts: dict[str, _Count]
    """What they hold."""
    lost: dict[str, int]
    """What had been lost in making it, by rule."""
    built: dict[str, Any]
    """How it was made, without the hashes of shards."""
    history: Sequence["Origin"] = ()
    """What it was made of itself."""


class Manifest(_Record):
    """The manifest of a set of either kind."""

    kind: ClassVar[Kind]
    documents: _Count
    """Documents in all shards."""
    built: dict[str, Any]
    """How the set was made: JSON values of whoever made it."""
    files: dict[str, FileEntry]
    """Every file of the set but the manifest, by name."""
    shards: Sequence[ShardEntry]
    """The shards in order."""
    lost: dict[str, int] = {}
    """How many things are not in the set, by the rule that dropped them (`mmpt.data.lost.BAD_DATA`: by none)."""
    plan: str = ""
    """Hash of the plan of the run that made the set; empty where a single writer did."""
    history: Sequence[Origin] = ()
    """The sets that this one was made of, in order."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the hashes of all shards in order: equal for sets of the same bytes, wherever and however they were made."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def counts(self) -> dict[str, int]:
        """What all documents hold, by the names in `COLUMNS`."""
        return {name: sum(shard.counts.get(name, 0) for shard in self.shards) for name in COLUMNS[self.kind]}


class DocumentManifest(Manifest):
    """The manifest of a set of documents."""

    kind: ClassVar[Kind] = "documents"
    shards: Sequence[DocumentShard]  # pyright: ignore[reportIncompatibleVariableOverride] (frozen: narrower is safe)
    """The shards in order."""


class TokenManifest(Manifest):
    """The manifest of a set of token sequences."""

    kind: ClassVar[Kind] = "tokens"
    shards: Sequence[TokenShard]  # pyright: ignore[reportIncompatibleVariableOverride] (frozen: narrower is safe)
    """The shards in order."""
    vocabulary: _Sha256
    """Fingerprint of the vocabulary of its ids."""


M = TypeVar("M", bound=Manifest)


def read_manifest(folder: str | Path, schema: type[M] = Manifest) -> M:
    """The manifest of a set of shards, at a path or a URL, checked. `schema` is that of the kind expected, `Manifest` for either.

    Raises `DataError`, naming the folder or each field, where it is missing, of another format or kind, or incomplete.
    """
    store = Store(folder)
    if store.is_local and not Path(store.location).is_dir():
        raise DataError(f"{folder}: no such folder")
    if not store.exists(MANIFEST):
        raise DataError(f"{folder}: {MANIFEST} is missing, so this is no finished set of shards")
    return parse_manifest(store.read(MANIFEST), store.path(MANIFEST), schema)


def origin(folder: str | Path) -> dict[str, Any]:
    """What a set made of the one in `folder` keeps of it: an `Origin`, as JSON has it. Raises `DataError`."""
    found = read_manifest(folder)
    built = {name: value for name, value in found.built.items() if name != "shards"}
    kept = {name: getattr(found, name) for name in ("fingerprint", "documents", "counts", "lost", "history")}
    return Origin(place=str(folder), built=built, **kept).model_dump(mode="json")


def parse_manifest(data: bytes, name: str, schema: type[M] = Manifest) -> M:
    """The manifest in the bytes of its file `name`. Raises `DataError` as `read_manifest` does."""
    try:
        content = decode_json(data)
    except DataError as problem:
        raise DataError(f"{name}: {problem}") from None
    if content.get("format") != FORMAT:
        raise DataError(f"{name}: format is {content.get('format')!r}, expected {FORMAT!r}")
    expected = {one.kind: one for one in (DocumentManifest, TokenManifest) if issubclass(one, schema)}
    found = content.get("kind")
    if found not in expected:
        raise DataError(f"{name}: kind is {found!r}, expected {' or '.join(map(repr, expected))}")
    try:
        manifest = parse_config(content, expected[found], name)
    except ConfigError as problem:
        raise DataError(str(problem)) from None
    if manifest.documents != sum(shard.documents for shard in manifest.shards):
        raise DataError(f"{name}: documents is {manifest.documents}, but the shards' do not add up to it")
    return manifest


def index_name(shard: str) -> str:
    """`shard-00000.tar` → `shard-00000.index.safetensors`."""
    return shard.removesuffix(".tar") + ".index.safetensors"


def check_index(data: bytes, files: Mapping[str, FileEntry], shard: ShardEntry, name: str) -> Index:
    """The index of one shard from the bytes of its file `name`, after comparing it with what the manifest says of both.

    Raises `DataError`, beginning with `name`, where anything differs.
    """
    entry = files.get(index_name(shard.name))
    if entry is None or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(f"{name}: differs from the hash in {MANIFEST}")
    index = decode_index(data, len(COLUMNS[shard.kind]), name)
    if len(index) != shard.documents or index.tar_bytes != shard.bytes:
        raise DataError(f"{name}: an index of {len(index)} documents in {index.tar_bytes} bytes, but {MANIFEST} says "
                        f"{shard.documents} in {shard.bytes}")  # fmt: skip
    return index


def check_size(store: Store, shard: ShardEntry) -> None:
    """Raise `DataError`, naming the shard and both sizes, unless its tar is as long as the manifest says."""
    path, found = store.path(shard.name), store.size(shard.name)
    if found != shard.bytes:
        raise DataError(f"{path}: {found} bytes, expected {shard.bytes}{': cut short' if found < shard.bytes else ''}")
