"""Objectives: what each adds to the loss, and what it knows before the forward pass."""

import sys
from pathlib import Path

import pytest
import torch

from mmpt.data.loading.packing import pack
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel
from mmpt.training.objectives.next_token import NextToken
from mmpt.training.objectives.router_balance import RouterBalance

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402

WORLD = World(0, 1, torch.device("cpu"))


def language_model(objectives, content=ranks.BACKBONE) -> LanguageModel:
    model = build_backbone(BackboneConfig(config=content), ranks.VOCABULARY.size, seed=3)
    return LanguageModel(model, ranks.VOCABULARY, objectives, WORLD)


def test_the_next_token_is_weighted_by_document_modality_and_objective():
    trained = language_model([NextToken(weight=3.0, weights={"image": 0.5, "speech": 0.0})])
    share = trained.share([pack(ranks.documents(range(2, 6)))])
    (batch,) = share.batches
    terms = trained.loss(batch, 0.0)
    logits = [
        trained.model(input_ids=torch.tensor(document.ids.astype("int64"))[None], use_cache=False).logits[0]
        for document in ranks.documents(range(2, 6))
    ]
    edges = ranks.VOCABULARY.ranges()
    loss, count, hits = 0.0, 0.0, 0
    for document, scores in zip(ranks.documents(range(2, 6)), logits, strict=True):
        for place, target in enumerate(document.ids[1:].tolist()):
            kind = next(name for name, (first, last) in edges.items() if first <= target < last)
            weight = float(document.weights[place + 1]) * {"image": 0.5, "speech": 0.0}.get(kind, 1.0)
            loss -= weight * float(scores[place].log_softmax(dim=-1)[target])
            count += weight
            hits += int(weight > 0 and scores[place].argmax() == target)
    term = terms["next_token"]
    assert term.weight == 3.0 and float(term.total) == pytest.approx(loss, rel=1e-5)
    assert float(share.counts["next_token"]) == pytest.approx(count) == pytest.approx(float(term.count))
    assert int(terms["accuracy"].total.sum()) == hits and terms["nll"].weight == 0.0
    assert share.amounts["tokens"] == batch.input_ids.numel() and share.names[0].startswith("document-2, document-3")


def test_routers_are_balanced_where_the_backbone_asks_for_it_alone():
    both = [NextToken(), RouterBalance(weight=2.0)]
    trained = language_model(both, ranks.EXPERTS)
    share = trained.share([pack(ranks.documents(range(2, 6)))])
    term = trained.loss(share.batches[0], 0.0)["router_balance"]
    ids = share.batches[0].input_ids
    assert float(share.counts["router_balance"]) == float(term.count) == ids.numel()
    assert term.beside and term.weight == 2.0 and term.total.requires_grad
    assert float(term.total / term.count) >= 0.5 * 0.99  # its least, times the coefficient: the routers' shares are about even
    plain = language_model(both)
    assert set(plain.share(share.batches).counts) == {"next_token"} and not plain.asks


def test_a_backbone_that_asks_for_balance_without_the_objective_is_refused():
    with pytest.raises(ConfigError, match="objectives: router_balance is missing"):
        language_model([NextToken()], ranks.EXPERTS)
