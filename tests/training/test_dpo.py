"""Direct preference optimisation: against the formula on whole logits in float64, and TRL's way of writing it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument, paired
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel, Start
from mmpt.training.objectives.dpo import Dpo
from mmpt.training.objectives.next_token import NextToken

sys.path.insert(0, str(Path(__file__).parent))
from tiny_runs import BACKBONE, IDS, VOCABULARY, pretrain  # noqa: E402

WORLD = World(0, 1, torch.device("cpu"))


def preferences(count: int, seed: int = 0) -> list[TokenDocument]:
    """Prompts of 4 tokens, each with two answers of different lengths."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        prompt, lengths = draw.choice(IDS, 4), draw.integers(2, 9, 2)
        sides = [
            TokenDocument(f"pair-{number}", "test", np.concatenate([prompt, draw.choice(IDS, length)]), weights)
            for length in lengths
            for weights in [np.repeat(np.float32([0, 1]), [4, length])]
        ]
        found.append(paired(*sides))
    return found


def model(seed: int):
    return build_backbone(BackboneConfig(config=BACKBONE), VOCABULARY.size, seed=seed).double()


def trained(policy, start, *objectives) -> LanguageModel:
    return LanguageModel(policy, VOCABULARY, objectives, WORLD, start=Start(start))


def answers(policy, document: TokenDocument) -> list[torch.Tensor]:
    """Σ ln p of both answers behind the prompt, each sequence alone."""
    found = []
    for ids in (document.ids[: document.rejected], document.ids[document.rejected :]):
        ids = torch.tensor(ids.astype(np.int64))
        scores = policy(input_ids=ids[None], use_cache=False).logits[0].log_softmax(dim=-1)
        found.append(scores[3:-1].gather(1, ids[4:, None]).sum())
    return found


def trl(policy, start, documents, beta: float, smoothing: float) -> torch.Tensor:
    """Σ of the loss of each pair as trl.DPOTrainer writes it: logits = (π_c − π_r) − (ref_c − ref_r)."""
    total = torch.zeros((), dtype=torch.float64)
    for document in documents:
        (chosen, rejected), (ref_chosen, ref_rejected) = answers(policy, document), answers(start, document)
        logits = (chosen - rejected) - (ref_chosen - ref_rejected).detach()
        total = total - F.logsigmoid(beta * logits) * (1 - smoothing) - F.logsigmoid(-beta * logits) * smoothing
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_those_of_the_formula(smoothing):
    documents, policy, start = preferences(5), model(1), model(2)
    objective = trained(policy, start, Dpo(beta=0.7, label_smoothing=smoothing, weight=2.0))
    share = objective.share([pack(documents)])
    terms = objective.loss(share.batches[0], 0.0)
    wanted = trl(policy, start, documents, 0.7, smoothing)
    term = terms["dpo"]
    assert term.total.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert float(share.counts["dpo"]) == float(term.count) == 5 and term.weight == 2.0
    found = torch.autograd.grad(term.total, list(policy.parameters()))
    for one, other in zip(found, torch.autograd.grad(wanted, list(policy.parameters())), strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-5)
    margins = []
    for document in documents:
        (chosen, rejected), (ref_chosen, ref_rejected) = answers(policy, document), answers(start, document)
        margins.append(0.7 * ((chosen - ref_chosen) - (rejected - ref_rejected)).item())
    assert float(terms["dpo_margin"].total) == pytest.approx(sum(margins), rel=1e-6)
    assert float(terms["dpo_accuracy"].total) == sum(margin > 0 for margin in margins)


def test_at_the_start_the_loss_is_ln_2_and_the_gradient_half_of_beta_between_the_answers():
    documents, policy = preferences(3), model(1)
    objective = trained(policy, model(1), Dpo(beta=0.3))
    (batch,) = objective.share([pack(documents)]).batches
    term = objective.loss(batch, 0.0)["dpo"]
    assert term.total.item() == pytest.approx(3 * np.log(2), rel=1e-7)
    found = torch.autograd.grad(term.total, list(policy.parameters()))
    between = sum(chosen - rejected for chosen, rejected in (answers(policy, one) for one in documents))
    for one, other in zip(found, torch.autograd.grad(between, list(policy.parameters())), strict=True):
        assert torch.allclose(one, -0.3 / 2 * other, atol=1e-7, rtol=1e-5)


def test_beside_it_the_next_token_learns_preferred_answers_alone():
    documents, policy = preferences(3), model(1)
    alone = [TokenDocument(one.id, one.source, one.ids[: one.rejected], one.weights[: one.rejected]) for one in documents]
    both = trained(policy, model(2), NextToken(), Dpo())
    (pairs,), (chosen,) = both.share([pack(documents)]).batches, both.share([pack(alone)]).batches
    assert both.share([pack(documents)]).counts["next_token"] == both.share([pack(alone)]).counts["next_token"]
    found, wanted = both.loss(pairs, 0.0), both.loss(chosen, 0.0)
    assert found["next_token"].total.item() == pytest.approx(wanted["next_token"].total.item(), rel=1e-9)
    # A pack without pairs adds nothing, and still takes part in the step.
    assert wanted["dpo"].total.item() == float(wanted["dpo"].count) == 0 and wanted["dpo"].total.requires_grad


def test_packs_must_be_whole(tmp_path):
    with pytest.raises(ConfigError, match="dpo does not go with loader.sequence_parallel"):
        pretrain(tmp_path, "run", 0, objectives=["dpo"], loader={"sequence_parallel": 2})
