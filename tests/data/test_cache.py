"""A remote set reads as a local one, through a cache that holds what is whole and forgets what was not used."""

import random
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmpt.data import store as stores
from mmpt.data.cache import Cache
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import ShardWriter, TokenShardWriter
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError
from mmpt.storage import sha256
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(300, "test", image_codes=16, codes_per_image=4, speech_codes=16, speech_rate=12.5)


class Shaky(MemoryFileSystem):
    """Half of all requests fail."""

    protocol = "shaky"
    store: dict = {}
    pseudo_dirs = [""]
    draw = random.Random(0)
    downloads = 0

    def cat_file(self, *arguments, **options):
        if self.draw.random() < 0.5:
            raise ConnectionResetError("reset")
        return super().cat_file(*arguments, **options)

    def get_file(self, *arguments, **options):
        if self.draw.random() < 0.5:
            raise TimeoutError("timed out")
        Shaky.downloads += 1
        return super().get_file(*arguments, **options)


@pytest.fixture
def remote(tmp_path, monkeypatch) -> tuple[str, TokenShards]:
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    monkeypatch.setattr(stores, "LONGEST_WAIT", 1e-3)
    draw = np.random.default_rng(0)
    with TokenShardWriter(tmp_path / "local", vocabulary=VOCABULARY, built={}, max_documents=50) as writer:
        for number in range(200):
            writer.write(TokenDocument(f"{number}", "test", draw.integers(0, 300, int(draw.integers(5, 60)))))
    url = f"shaky://{tmp_path.name}/set"
    for name in Store(tmp_path / "local").files():
        Store(url).write(name, (tmp_path / "local" / name).read_bytes())
    return url, TokenShards(tmp_path / "local")


def test_the_loader_gives_the_same_stream_from_a_remote_that_fails_half_of_the_time(remote, tmp_path):
    url, local = remote
    options = {"pack_tokens": 128, "packs_per_step": 2, "seed": 0, "epochs": 2}
    expected = [batch.input_ids.tolist() for step in Loader([local], **options) for batch in step]
    before = Shaky.downloads
    shards = TokenShards(url, cache=Cache(tmp_path / "cache"))
    found = [batch.input_ids.tolist() for step in Loader([shards], **options, workers=3) for batch in step]
    assert found == expected and Shaky.downloads - before == len(local.manifest.files)
    TokenShards(url, cache=Cache(tmp_path / "cache"))[0]
    assert Shaky.downloads - before == len(local.manifest.files), "what is there is not fetched again"


def test_many_who_want_a_file_at_once_fetch_it_once(remote, tmp_path):
    url, local = remote
    name = local.manifest.shards[0].name
    expected, before = sha256(tmp_path / "local" / name), Shaky.downloads
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: Cache(tmp_path / "cache").fetch(Store(url), name, expected), range(64)))
    assert Shaky.downloads - before == 1 and len(set(found)) == 1 and sha256(found[0]) == expected


def test_the_least_recently_used_goes_first(remote, tmp_path):
    url, local = remote
    sizes = [shard.bytes for shard in local.manifest.shards]
    cache = Cache(tmp_path / "cache", max_bytes=sum(sizes[:2]) + 60_000)
    shards = TokenShards(url, cache=cache)
    for number in (0, 50, 1, 100):
        assert shards[number].id == str(number)
        TokenShards(url, cache=cache)[0]  # used all the time
    names = {path.name for path in (tmp_path / "cache").rglob("*.tar")}
    assert "shard-00000.tar" in names and "shard-00001.tar" not in names and "shard-00002.tar" in names
    assert shards[51].id == "51", "a file that is open stays readable"
    assert not list((tmp_path / "cache").glob(".download-*"))


def test_what_does_not_match_its_hash_is_never_taken(remote, tmp_path):
    url, local = remote
    Store(url).write("shard-00001.tar", b"something else")
    shards = TokenShards(url, cache=Cache(tmp_path / "cache"))
    assert shards[0].id == "0"
    with pytest.raises(DataError, match="shard-00001.tar: differs from the hash in the manifest, twice"):
        shards[60]
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or sha256(path) == path.parent.name


def test_documents_too_and_a_cache_is_not_needed(tmp_path):
    with ShardWriter(tmp_path / "set", built={}) as writer:
        writer.write(Document("a", "test", (Text("hello"),)))
    for name in Store(tmp_path / "set").files():
        Store("memory://cache-test/set").write(name, (tmp_path / "set" / name).read_bytes())
    assert list(DocumentShards("memory://cache-test/set")) == list(DocumentShards(tmp_path / "set"))  # sample by sample
    assert list(DocumentShards("memory://cache-test/set", Cache(tmp_path / "c"))) == list(DocumentShards(tmp_path / "set"))
