"""What likelihoods of sequences are made of: scores of tokens, shares of pairs, the loss of token shards."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.shards.tokens import TokenDocument, paired
from mmpt.data.shards.write import TokenShardWriter
from mmpt.evaluation.metrics import likelihood
from mmpt.evaluation.metrics.likelihood import area_under_curve, preferred
from mmpt.inference.load import load

from ..inference.tiny import write_checkpoint
from .scripted import by_hand, likeliest, run, values


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("rows", [7, 512])
def test_token_scores_are_those_of_each_sequence_alone(model, monkeypatch, rows):
    monkeypatch.setattr(likelihood, "ROWS", rows)
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, model.tokenizer.vocabulary.size, length).tolist() for length in (5, 1, 40, 17, 2)]
    sequences[2] = model.generate([sequences[2][:9]], max_new_tokens=20)[0]
    for found, ids in zip(token_scores(model, sequences), sequences, strict=True):
        assert found.log_probability.tolist() == pytest.approx(by_hand(model, ids), abs=1e-5)
        assert found.likeliest.tolist() == [likeliest(model, ids[: n + 1]) == ids[n + 1] for n in range(len(ids) - 1)]


def test_a_modality_alone_competes_with_itself(model):
    vocabulary = model.tokenizer.vocabulary
    low, high = vocabulary.ranges()["speech"]
    best = low + likeliest(model, [3, vocabulary.special("<|speech|>"), low + 1], low, high)
    ids = [3, vocabulary.special("<|speech|>"), low + 1, best, vocabulary.special("<|/speech|>")]
    (found,) = token_scores(model, [ids], "speech")
    assert np.isnan(found.log_probability).tolist() == [True, False, False, True]
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    wanted = [float(logits[place, low:high].log_softmax(0)[token - low]) for place, token in ((1, low + 1), (2, best))]
    assert found.log_probability[1:3].tolist() == pytest.approx(wanted, abs=1e-5)
    assert found.likeliest.tolist() == [False, likeliest(model, ids[:2], low, high) == 1, True, False]


def token_scores(model, sequences, modality=None):
    return likelihood.token_scores(model.model, model.tokenizer.vocabulary, sequences, modality)


def test_ties_count_half():
    assert [preferred(2.0, 1.0), preferred(1.0, 2.0), preferred(1.0, 1.0)] == [1.0, 0.0, 0.5]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(positive, negative):
    wanted = np.mean([[preferred(p, n) for n in negative] for p in positive])
    assert area_under_curve(np.array(positive, float), np.array(negative, float)) == pytest.approx(wanted, abs=1e-12)


def test_loss_on_token_shards(model, tmp_path):
    vocabulary, draw = model.tokenizer.vocabulary, np.random.default_rng(0)
    low, high = vocabulary.ranges()["speech"]
    documents = []
    for number, length in enumerate((6, 3, 9)):
        ids = np.where(draw.random(length) < 0.5, draw.integers(0, 20, length), draw.integers(low, high, length))
        documents.append(TokenDocument(str(number), "s", ids, draw.choice([0.0, 1.0, 2.0], length).astype(np.float32)))
    documents.append(TokenDocument("plain", "s", draw.integers(0, 20, 4)))  # without weights, all are 1
    with TokenShardWriter(tmp_path / "set", vocabulary=vocabulary, built={}) as writer:
        for one in documents:
            writer.write(one)
    total, weight = {"text": 0.0, "speech": 0.0}, {"text": 0.0, "speech": 0.0}
    for one in documents:
        weights = np.ones(len(one.ids)) if one.weights is None else one.weights
        for target, own, score in zip(one.ids[1:], weights[1:], by_hand(model, one.ids.tolist()), strict=True):
            modality = "speech" if target >= low else "text"
            total[modality] -= float(own) * score
            weight[modality] += float(own)
    found = run({"kind": "loss", "folder": str(tmp_path / "set")}, model)
    assert values(found) == {
        "loss": pytest.approx(sum(total.values()) / sum(weight.values()), abs=1e-5),
        "loss, text": pytest.approx(total["text"] / weight["text"], abs=1e-5),
        "loss, speech": pytest.approx(total["speech"] / weight["speech"], abs=1e-5),
    }
    assert found.measures[0].better == "less" and found.measures[0].low < found.measures[0].value < found.measures[0].high


def test_margins_of_preferred_answers_are_by_hand(model, tmp_path):
    vocabulary, draw = model.tokenizer.vocabulary, np.random.default_rng(1)
    pairs = []
    for number, lengths in enumerate(((2, 5), (4, 1), (3, 3))):
        sides = [
            TokenDocument(f"p{number}", "s", draw.integers(0, 20, 3 + n), np.repeat(np.float32([0, 1]), [3, n])) for n in lengths
        ]
        pairs.append(paired(*sides))
    with TokenShardWriter(tmp_path / "set", vocabulary=vocabulary, built={}) as writer:
        for one in (*pairs, TokenDocument("single", "s", draw.integers(0, 20, 4))):
            writer.write(one)
    result = run({"kind": "preferred_answers", "folder": str(tmp_path / "set")}, model)
    # The prompt's two targets are not counted.
    margins = [
        sum(by_hand(model, one.ids[: one.rejected].tolist())[2:]) - sum(by_hand(model, one.ids[one.rejected :].tolist())[2:])
        for one in pairs
    ]
    assert values(result)["margin"] == pytest.approx(np.mean(margins), abs=1e-4)
    assert values(result)["accuracy"] == np.mean([margin > 0 for margin in margins])
    assert result.missing == ("single: it has no rejected answer",)
    # The loss on such shards is that of the preferred answers.
    loss = values(run({"kind": "loss", "folder": str(tmp_path / "set"), "limit": 1}, model))["loss"]
    assert loss == pytest.approx(-np.mean(by_hand(model, pairs[0].ids[: pairs[0].rejected].tolist())[2:]), abs=1e-5)
