"""Reading whatever is sound in a set of document shards: every sample comes out whole, or is listed with its reason."""

from mmpt.data.lost import Documents, Lost
from mmpt.data.shards.index import Index
from mmpt.data.shards.manifest import Manifest, ShardEntry, check_index, index_name
from mmpt.data.shards.sample import decode_json, sample_key
from mmpt.data.store import Store
from mmpt.document import Document, from_record
from mmpt.errors import DataError


def read_shard(store: Store, manifest: Manifest, shard: ShardEntry) -> Documents:
    """The documents of one shard of the set, read in one go, and a `Lost` for each that cannot be had."""
    name = shard.name
    try:
        index = check_index(store.read(index_name(name)), manifest.files, shard, store.path(index_name(name)))
        data = memoryview(store.read(name))
    except DataError as problem:
        for number in range(shard.documents):
            yield Lost(f"{name}: {sample_key(name, number)}", str(problem))
        return
    for number in range(len(index)):
        try:
            yield _document(index, name, number, bytes(data[index.offsets[number] : index.offsets[number + 1]]))
        except DataError as problem:
            yield Lost(f"{name}: {sample_key(name, number)}", str(problem))


def _document(index: Index, shard: str, number: int, data: bytes) -> Document:
    members = index.decode(shard, number, data)
    return from_record(decode_json(members.pop("json")), members)
