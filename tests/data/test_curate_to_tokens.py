"""Shards of documents through the text tokenizer: the first documents alone where so many are asked for, in their order."""

from pathlib import Path

import numpy as np
import pytest

from mmpt.chat import ChatConfig, ChatFormat
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.tokenizers.text import decode_text, encode_text, load_text_tokenizer, train_text_tokenizer

WORDS = ["alpha beta", "gamma", "delta epsilon alpha", "beta beta", "epsilon"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    train_text_tokenizer(WORDS * 9, 300).save_pretrained(tmp_path / "text")
    return str(tmp_path / "text")


def write(folder: Path, documents: list[Document]) -> Path:
    with ShardWriter(folder, built={}, max_documents=2) as writer:  # three shards: a number of documents ends within one
        for document in documents:
            writer.write(document)
    return folder


@pytest.mark.parametrize("asked", [None, 1, 2, 3, 5, 9])
def test_the_first_documents_are_taken_in_order_whatever_the_shards(text, tmp_path, asked):
    documents = [Document(f"d{number}", "s", (Text(words),)) for number, words in enumerate(WORDS)]
    step = ToTokens(text=text, documents=asked)
    curate(step, [write(tmp_path / "in", documents)], tmp_path / "out")
    found = TokenShards(tmp_path / "out")
    tokenizer, vocabulary = load_text_tokenizer(text), step.vocabulary()
    assert [one.id for one in found] == [f"d{number}/0" for number in range(len(WORDS))][:asked]
    for one, words in zip(found, WORDS, strict=False):
        expected = [vocabulary.special("<|begin|>"), *encode_text(tokenizer, words), vocabulary.special("<|end|>")]
        assert np.array_equal(one.ids, expected), words


def test_a_document_that_has_no_tokenizer_is_listed_and_the_others_stay(text, tmp_path):
    picture = Document("picture", "s", (Image(b"no picture", "png", 1, 1), Text("alpha")))
    documents = [Document("a", "s", (Text("alpha"),)), picture, Document("b", "s", (Text("beta"),))]
    curate(ToTokens(text=text), [write(tmp_path / "in", documents)], tmp_path / "out", run=RunConfig(max_lost=1.0))
    assert [one.id for one in TokenShards(tmp_path / "out")] == ["a/0", "b/0"]
    lost = list(from_lines((tmp_path / "out" / "lost.jsonl").read_bytes()))
    assert [one.document for one in lost] == ["picture"]


def test_the_set_keeps_how_turns_were_marked_and_needs_no_template_to_be_read_again(text, tmp_path):
    said = [Text("alpha", 0.0, "user"), Text("beta", role="assistant", turn=1)]
    folder = write(tmp_path / "in", [Document("a", "s", tuple(said)), Document("b", "s", (Text("gamma"),))])
    step = ToTokens(text=text, chat=ChatConfig(template="plain", alternate=(13, 26)))
    curate(step, [folder], tmp_path / "out")
    found = TokenShards(tmp_path / "out")
    assert ChatFormat(**found.manifest.built["chat"]) == step.chat_format()
    conversation, plain = found
    tokenizer, vocabulary = load_text_tokenizer(text), step.vocabulary()
    assert plain.ids[0] == vocabulary.special("<|begin|>") and plain.weights.tolist() == [0, 1, 1]
    *said, end = conversation.ids[conversation.weights > 0].tolist()
    assert decode_text(tokenizer, said) == "beta" and end == vocabulary.special("<|end|>")
    with pytest.raises(ConfigError, match="a is a conversation"):
        curate(ToTokens(text=text), [folder], tmp_path / "none")
