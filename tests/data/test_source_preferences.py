"""Preferred and rejected answers: every common form of rows, and two sequences that stay one sample and lie in one pack."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from chats import DEFAULT_SYSTEM
from PIL import Image as Picture

from mmpt.data.arrange import Arrangement
from mmpt.data.loading.loader import Loader
from mmpt.data.loading.packing import pack
from mmpt.data.lost import Lost
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium, TokenDocument, paired, sequences
from mmpt.data.shards.write import TokenShardWriter
from mmpt.data.sources.preferences import Preferences
from mmpt.data.token_documents import token_documents
from mmpt.document import Text, from_record, to_record
from mmpt.errors import DataError
from mmpt.media import encode_png

sys.path.insert(0, str(Path(__file__).parent))
from test_to_tokens import VOCABULARY, chatting  # noqa: E402

USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "2 + 2?"), ("assistant", "4"), ("assistant", "five"))
)
PLAIN = {"prompt": "2 + 2?", "chosen": "4", "rejected": "five"}


@pytest.fixture
def built(tmp_path):
    def build(*rows: dict) -> list:
        (tmp_path / "a.png").write_bytes(encode_png(Picture.new("RGB", (4, 3), "red")))
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(Preferences(rows=str(tmp_path / "x.jsonl")).documents())

    return build


@pytest.mark.parametrize(
    "row",
    [
        PLAIN,
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "2 + 2?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "2 + 2?", "chosen": [GOOD], "rejected": "five"},
        {"messages": [USER, GOOD], "rejected_response": "five"},
    ],
    ids=["texts", "messages", "prompt within", "UltraFeedback", "mixed", "ms-swift"],
)
def test_every_form_is_a_prompt_and_two_answers(built, row):
    (document,) = built(row)
    asked, preferred, other = document.parts
    assert asked == Text("2 + 2?", 0.0, "user", 0)
    assert (preferred, other) == (Text("4", 1.0, "assistant", 1), Text("five", 1.0, "rejected", 1))
    assert from_record(*to_record(document)) == document


def test_earlier_turns_of_the_assistant_belong_to_the_prompt_and_pictures_stand_in_place(built):
    asked = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "Red."}, USER]
    (document,) = built({"prompt": asked, "chosen": [GOOD], "rejected": [BAD], "images": ["a.png"]})
    assert [part.weight for part in document.parts] == [0, 0, 0, 0, 1, 1]
    assert [part.turn for part in document.parts] == [0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected: expected a text"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "3 + 3?"}, BAD]}, "the same but for the last turn"),
        ({"chosen": [GOOD, USER], "rejected": [GOOD, {**USER, "content": "x"}]}, "the assistant's turn as the last"),
        ({"messages": ["x"], "rejected_response": "y"}, "a role and a text"),
    ],
)
def test_what_is_no_pair_is_listed(built, row, match):
    (lost,) = built(row)
    assert isinstance(lost, Lost) and match in lost.reason


def test_a_score_is_listed_as_not_understood(built):
    document, lost = sorted(built({**PLAIN, "score_chosen": 9.0}), key=lambda one: isinstance(one, Lost))
    assert document.parts and "score_chosen" in lost.reason


def tokens(documents, **options) -> list:
    tokenizer = chatting(DEFAULT_SYSTEM)
    return list(token_documents(documents, tokenizer, **options)), tokenizer


def test_tokens_are_those_of_the_two_conversations(built, tmp_path):
    (pair,), tokenizer = tokens(built(PLAIN))
    halves = sequences(pair)
    for half, answer in zip(halves, ("4", "five"), strict=True):
        turns = tokenizer.text.decode(half.ids).split("<|im_start|>")[1:]
        assert turns == ["system\nBe useful<|im_end|>\n", "user\n2 + 2?<|im_end|>\n", f"assistant\n{answer}<|im_end|>\n"]
        assert tokenizer.text.decode(half.ids[half.weights > 0]) == f"{answer}<|im_end|>"
    assert [one.id for one in halves] == [pair.id, f"{pair.id}/rejected"]
    with TokenShardWriter(tmp_path / "tokens", vocabulary=tokenizer.vocabulary, built={}) as writer:
        writer.write(pair)
    read = TokenShards(tmp_path / "tokens")[0]
    assert read.rejected == pair.rejected > 0 and np.array_equal(read.ids, pair.ids)
    batch = pack([pair, pair])
    assert batch.document_ids == (pair.id, f"{pair.id}/rejected") * 2
    assert batch.position_ids[0, batch.cu_seqlens[:-1].long()].tolist() == [0] * 4
    assert batch.pairs.chosen_lengths.tolist() == [int((halves[0].weights > 0).sum())] * 2
    assert torch.equal(
        batch.targets[0, batch.pairs.rejected], torch.tensor(np.tile(halves[1].ids[halves[1].weights > 0].astype(np.int64), 2))
    )
    assert torch.equal(batch.weights[0].nonzero()[:, 0], batch.pairs.chosen)  # what is rejected is not learned


def test_a_pair_that_no_pack_holds_is_lost_and_not_cut(built, tmp_path):
    pairs, tokenizer = tokens(built(PLAIN, {**PLAIN, "chosen": "four " * 30}))
    with TokenShardWriter(tmp_path / "tokens", vocabulary=tokenizer.vocabulary, built={}) as writer:
        for pair in pairs:
            writer.write(pair)
    options = {"pack_tokens": len(pairs[0].ids) + 1, "packs_per_step": 1, "seed": 0, "epochs": 1, "workers": 0}
    loader = Loader([TokenShards(tmp_path / "tokens")], max_lost=1.0, **options)
    assert {name for (batch,) in loader for name in batch.document_ids} == {pairs[0].id, f"{pairs[0].id}/rejected", ""}
    assert "to be compared as a whole, which no pack holds" in loader.lost[0].reason


def test_a_rejected_answer_without_another_is_refused(built):
    (document,) = built(PLAIN)
    without = type(document)(document.id, document.source, (document.parts[0], document.parts[2]))
    with pytest.raises(DataError, match="no answer that is preferred"):
        tokens([without])
    with pytest.raises(DataError, match="arrangements"):
        tokens([document], arrangements=[Arrangement(order=("text",))])


def test_media_that_enter_as_features_stand_in_both_sequences():
    start, slots = 2, 3
    prompt = np.array([5, *VOCABULARY.encode_features("image", slots)])
    sides = [
        TokenDocument(
            "p", "s", np.concatenate([prompt, np.arange(length)]), np.repeat(np.float32([0, 1]), [len(prompt), length]),
            (Medium("image", "png", b"x", start, slots),),
        )
        for length in (2, 4)
    ]  # fmt: skip
    single = TokenDocument("single", "s", prompt, None, sides[0].media)
    inputs = [[torch.full((1,), 1.0)], [torch.full((1,), 2.0), torch.full((1,), 3.0)]]
    batch = pack([single, paired(*sides)], inputs)
    edges = batch.cu_seqlens.tolist()
    assert edges == [0, 6, 14, 24]
    assert batch.features["image"].inputs.flatten().tolist() == [1.0, 2.0, 3.0]
    assert batch.features["image"].places.tolist() == [edge + start + n for edge in edges[:3] for n in range(slots)]
    assert (batch.input_ids[0, batch.features["image"].places] == VOCABULARY.special("<|feature|>")).all()
