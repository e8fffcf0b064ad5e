"""Group-relative policy optimisation: against the formula on whole logits in float64."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpt.data.loading.packing import pack
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.training.objectives.grpo import Grpo

sys.path.insert(0, str(Path(__file__).parent))
from test_dpo import model, trained  # noqa: E402
from tiny_runs import IDS, VOCABULARY  # noqa: E402

ADVANTAGES = (1.3, -0.7, 0.2, -0.8)


def answers(seed: int = 0) -> list[TokenDocument]:
    draw, found = np.random.default_rng(seed), []
    for number, advantage in enumerate(ADVANTAGES):
        length = int(draw.integers(2, 9))
        weights = np.repeat(np.float32([0, 1]), [4, length])
        ids = draw.choice(IDS, 4 + length)
        found.append(TokenDocument(f"answer-{number}", "test", ids, weights, advantage=advantage))
    return found


def log_probabilities(policy, document: TokenDocument) -> torch.Tensor:
    ids = torch.tensor(document.ids.astype(np.int64))
    scores = policy(input_ids=ids[None], use_cache=False).logits[0].log_softmax(dim=-1)
    return scores[3:-1].gather(1, ids[4:, None])[:, 0]


def formula(policy, start, documents, clip: float, above: float, over: str) -> tuple[torch.Tensor, list]:
    total, ratios = torch.zeros((), dtype=torch.float64), []
    for document in documents:
        ratio = (log_probabilities(policy, document) - log_probabilities(start, document).detach()).exp()
        value = torch.minimum(ratio * document.advantage, ratio.clamp(1 - clip, 1 + above) * document.advantage)
        total = total - (value.mean() if over == "answers" else value.sum())
        ratios += ratio.tolist()
    return total, ratios


@pytest.mark.parametrize("over", ["answers", "tokens"])
def test_loss_and_gradient_are_those_of_the_formula(over):
    documents, policy, start = answers(), model(1), model(2)
    objective = trained(policy, start, Grpo(clip=0.1, clip_above=0.15, mean_over=over))
    share = objective.share([pack(documents)])
    terms = objective.loss(share.batches[0], 0.0)
    wanted, ratios = formula(policy, start, documents, 0.1, 0.15, over)
    assert terms["grpo"].total.item() == pytest.approx(wanted.item(), abs=2e-6)  # advantages are float32
    tokens = sum(len(one.ids) - 4 for one in documents)
    assert share.counts["grpo"].item() == terms["grpo"].count.item() == (4 if over == "answers" else tokens)
    assert terms["grpo_ratio"].total.item() == pytest.approx(sum(ratios), rel=1e-6) and terms["grpo_ratio"].count.item() == tokens
    assert 0 < terms["grpo_clipped"].total.item() < tokens  # so both branches were taken
    found = torch.autograd.grad(terms["grpo"].total, list(policy.parameters()))
    for one, other in zip(found, torch.autograd.grad(wanted, list(policy.parameters())), strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-5)


def test_at_the_start_it_is_the_policy_gradient():
    documents, policy = answers(), model(1)
    objective = trained(policy, model(1), Grpo())
    (batch,) = objective.share([pack(documents)]).batches
    terms = objective.loss(batch, 0.0)
    assert terms["grpo"].total.item() == pytest.approx(-sum(ADVANTAGES), abs=1e-6)  # all ratios are 1
    found = torch.autograd.grad(terms["grpo"].total, list(policy.parameters()))
    wanted = -sum(one.advantage * log_probabilities(policy, one).mean() for one in documents)
    for one, other in zip(found, torch.autograd.grad(wanted, list(policy.parameters())), strict=True):
        assert torch.allclose(one, other, atol=1e-7, rtol=1e-5)


def test_a_pack_without_advantages_adds_nothing():
    objective = trained(model(1), model(1), Grpo())
    share = objective.share([pack([replace(one, advantage=None) for one in answers()])])
    term = objective.loss(share.batches[0], 0.0)["grpo"]
    assert share.counts["grpo"] == term.count == term.total.item() == 0 and term.total.requires_grad


def test_advantages_are_kept_in_shards(tmp_path):
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        for one in answers():
            writer.write(one)
    assert [one.advantage for one in TokenShards(tmp_path / "set")] == list(ADVANTAGES)
