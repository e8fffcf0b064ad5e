"""Documents that weigh by their own loss: by the definition of the factors, alone and over ranks."""

import math
import sys
from pathlib import Path

import pytest
import torch

from mmpt.data.loading.packing import pack
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel
from mmpt.training.objectives.next_token import NextToken
from mmpt.training.objectives.reweighted import Reweighted

sys.path.insert(0, str(Path(__file__).parent))
from ranks import BACKBONE, VOCABULARY, documents  # noqa: E402
from scenarios import Results  # noqa: E402
from taught_ranks import REWEIGHTED  # noqa: E402

SHAPES = {"linupper": lambda h: min(h + 1, 1), "quadratic": lambda h: 1 - h * h, "extremes": abs}


def model(seed=3):
    return build_backbone(BackboneConfig(config=BACKBONE), VOCABULARY.size, seed=seed)


def losses(decoder, numbers):
    """Of each document: (Σ weight · nll, Σ weight), read alone, in float64."""
    for document in documents(numbers):
        ids = torch.tensor(document.ids.astype("int64"))
        with torch.no_grad():
            scores = decoder(input_ids=ids[None], use_cache=False).logits[0].double().log_softmax(dim=-1)
        weights = torch.from_numpy(document.weights[1:]).double()
        yield float(-(weights * scores[:-1].gather(1, ids[1:, None])[:, 0]).sum()), float(weights.sum())


def by_hand(each, strategy, strength):
    """Σ factor · Σ weight · nll of documents with something to learn."""
    each = [(total, count) for total, count in each if count]
    means = [total / count for total, count in each]
    low, high = min(means), max(means)
    raw = [math.exp(strength * SHAPES[strategy](2 * (mean - low) / (high - low) - 1)) for mean in means]
    return sum(factor * len(raw) / sum(raw) * total for factor, (total, _) in zip(raw, each, strict=True))


@pytest.mark.parametrize("strategy", SHAPES)
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_factors_are_those_of_the_paper(strategy, strength):
    decoder = model()
    trained = LanguageModel(
        decoder, VOCABULARY, [Reweighted(strategy=strategy, strength=strength)], World(0, 1, torch.device("cpu"))
    )
    share = trained.share([pack(documents(range(0, 8)))])
    terms = trained.loss(share.batches[0], 0.0)
    each = list(losses(decoder, range(0, 8)))
    assert each[0][1] == 0  # a document without weight takes no part
    assert float(terms["next_token"].total) == pytest.approx(by_hand(each, strategy, strength), rel=1e-5)
    assert float(share.counts["next_token"]) == pytest.approx(sum(count for _, count in each))
    plain = LanguageModel(decoder, VOCABULARY, [NextToken()], World(0, 1, torch.device("cpu"))).loss(share.batches[0], 0.0)
    assert torch.equal(terms["nll"].total, plain["nll"].total)  # what is told of tokens knows no factors


def test_without_strength_it_is_the_next_token():
    found = []
    for objective in (NextToken(), Reweighted(strength=0.0)):
        decoder = model()
        trained = LanguageModel(decoder, VOCABULARY, [objective], World(0, 1, torch.device("cpu")))
        share = trained.share([pack(documents(range(2, 8)))])
        total = trained.loss(share.batches[0], 0.0)["next_token"].total
        total.backward()
        found.append((total.detach(), [parameter.grad for parameter in decoder.parameters()]))
    (one, gradients), (other, others) = found
    assert torch.equal(one, other) and all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


@pytest.mark.ranks
def test_ranks_weigh_the_documents_that_they_learn_together(tmp_path_factory):
    done = Results("taught_ranks.py", tmp_path_factory.mktemp("ranks"))["reweighted"]
    assert done["codes"] == [0, 0]
    each = list(losses(model(seed=5), range(0, 8)))
    wanted = by_hand(each, REWEIGHTED["strategy"], REWEIGHTED["strength"]) / sum(count for _, count in each)
    assert done["loss"] == pytest.approx(wanted, rel=1e-5)
