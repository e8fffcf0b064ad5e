"""SemDeDup: within a cluster what is too near to one before it goes; the result is that of comparing all with all."""

import os
from pathlib import Path

import numpy as np
import pytest

from mmpt.data.curate.copies.buckets import Member, name_of
from mmpt.data.curate.copies.clusters import VECTORS, Clustered, centres, cluster_copies, copies
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.dedup_semantic import DedupSemantic
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text

WORDS = ["[PAD]", "[UNK]", "sun", "rises", "east", "moon", "cheese", "made", "of", "the", "in", "is", "bread", "baked"]


def points(groups: int, each: int, seed: int, noise: float = 0.02) -> np.ndarray:
    draw = np.random.default_rng(seed)
    found = np.repeat(draw.standard_normal((groups, 16)), each, axis=0) + noise * draw.standard_normal((groups * each, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def by_the_paper(vectors: np.ndarray, middle: np.ndarray, similarity: float) -> set[int]:
    """Sorted by their cosine with the middle, lowest first; one whose largest cosine with one before it is high goes."""
    order = sorted(range(len(vectors)), key=lambda n: (round(float(vectors[n] @ middle), 5), n))
    return {n for at, n in enumerate(order) if any(vectors[n] @ vectors[other] >= similarity for other in order[:at])}


def test_within_a_cluster_it_is_what_the_paper_says():
    vectors = points(40, 3, 0, 0.25)
    middle = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    given = Clustered((), 16, 0, "", 0.95, True, "")
    found = cluster_copies(given, np.arange(120), vectors, middle)
    assert {number for number, _, _ in found} == by_the_paper(vectors, middle, 0.95) and 20 < len(found) < 80
    for number, keeper, cosine in found:
        assert cosine == pytest.approx(float(vectors[number] @ vectors[keeper]), abs=1e-5) and cosine >= 0.95
    first = cluster_copies(Clustered((), 16, 0, "", 0.95, False, ""), np.arange(120), vectors, middle)
    assert all(keeper < number for number, keeper, _ in first)
    farthest = []
    for at in range(0, 120, 3):  # the first is of an earlier set: it stays, though a later one is farther from the middle
        late = cluster_copies(Clustered((), 16, 1, "", 0.5, True, ""), np.arange(3), vectors[at : at + 3], middle)
        assert {number for number, _, _ in late} == {1, 2}
        farthest.append(int(np.argmin(vectors[at : at + 3] @ middle)))
    assert set(farthest) == {0, 1, 2}


def test_shards_processes_and_blocks_change_nothing(tmp_path, monkeypatch):
    vectors = points(50, 4, 1)
    vectors[7] = 0  # a document without text
    found = []
    for name, edges, processes in (("a", [0, 200], 1), ("b", [0, 30, 31, 140, 200], 2)):
        store, members = Store(tmp_path / name), []
        for shard, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
            store.write(name_of(shard, VECTORS, "rows"), vectors[start:end].tobytes())
            members.append(Member(str(tmp_path / name), shard, start))
        middle = centres(members, 200, 16, 10, 0)
        given = Clustered(tuple(members), 16, 0, str(tmp_path / name), 0.9, True, os.getcwd())
        found.append(copies(given, middle, RunConfig(processes=processes)))
        assert len(middle) == 10 and np.linalg.norm(middle, axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    assert found[0] == found[1]
    gone = {number for number, _, _ in found[0]}
    assert len(gone) == 149 and 7 not in gone, "of each four one stays"
    monkeypatch.setattr("mmpt.data.curate.copies.clusters.BLOCK", 3)
    monkeypatch.setattr("mmpt.data.curate.copies.clusters.TOGETHER", 5)
    again = copies(given, middle, RunConfig())
    assert [one[:2] for one in again] == [one[:2] for one in found[0]]


def encoder(folder: Path) -> str:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def test_documents_that_say_the_same_go(tmp_path):
    sentences = ["the sun rises in the east", "the moon is made of cheese", "bread is baked"]
    documents = [Document(f"d{n}", "t", (Text(sentences[n % 3]),)) for n in range(9)]
    documents.insert(4, Document("picture", "t", (Image(b"x", "png", 1, 1),)))
    with ShardWriter(tmp_path / "in", built={}, max_documents=4) as writer:
        for one in documents:
            writer.write(one)
    step = DedupSemantic(model=encoder(tmp_path / "model"), keep="first", similarity=0.999)
    summary = curate(step, [tmp_path / "in"], tmp_path / "out")
    assert [one.id for one in DocumentShards(tmp_path / "out")] == ["d0", "d1", "d2", "picture"]
    assert summary.lost == {"semantic": 6}
    lost = from_lines((tmp_path / "out" / "lost.jsonl").read_bytes())
    assert {one.document: one.reason for one in lost}["d5"] == "like d2 (cosine 1.000)"
    late = [Document("late", "t", (Text(sentences[1]),)), Document("other", "t", (Text("cheese is baked in the sun"),))]
    with ShardWriter(tmp_path / "more", built={}) as writer:
        for one in late:
            writer.write(one)
    curate(step.model_copy(update={"against": (f"{tmp_path}/out.vectors",)}), [tmp_path / "more"], tmp_path / "more-out")
    assert [one.id for one in DocumentShards(tmp_path / "more-out")] == ["other"]
