"""Several tokens ahead: what the loss is worth, what it changes, and that ranks and interruptions change nothing."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mmpt.data.loading.packing import pack
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel
from mmpt.training.objectives.future_tokens import FutureTokens
from mmpt.training.objectives.next_token import NextToken
from mmpt.training.parts import part_of

sys.path.insert(0, str(Path(__file__).parent))
from ranks import BACKBONE, VOCABULARY, documents  # noqa: E402
from scenarios import Results  # noqa: E402

WORLD = World(0, 1, torch.device("cpu"))


def student(*objectives) -> LanguageModel:
    torch.manual_seed(2)
    model = build_backbone(BackboneConfig(config={**BACKBONE, "hidden_size": 24}), VOCABULARY.size, seed=3)
    return LanguageModel(model, VOCABULARY, objectives, WORLD)


@pytest.mark.parametrize(("tokens", "every"), [(1, 1), (3, 1), (4, 3)])
def test_the_loss_is_that_of_every_token_ahead_by_itself(tokens, every):
    """Document by document, position by position, target by target, in float64."""
    objective = FutureTokens(tokens=tokens, every=every, vectors=2, heads=2, weight=0.5, decay=0.7, weights={"image": 0.25})
    trained = student(NextToken(), objective).double()
    share = trained.share([pack(documents(range(2, 6)))])
    term = trained.loss(share.batches[0], 0.0)["future_tokens"]
    model, head = trained.model, trained.heads["future_tokens"]
    table, embed = model.get_output_embeddings().weight, model.get_input_embeddings()
    first, last = VOCABULARY.ranges()["image"]
    wanted, weight = 0.0, 0.0
    with torch.no_grad():
        for document in documents(range(2, 6)):
            ids = torch.tensor(document.ids.astype("int64"))
            states = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
            for place in range(0, len(ids) - 1, every):
                for ahead in range(1, tokens + 1):
                    if place + ahead >= len(ids):
                        continue
                    target = int(ids[place + ahead])
                    between = embed(ids[place + 1 : place + ahead])
                    between = F.pad(between, (0, 0, 0, tokens - 1 - len(between)), value=7.0)  # what comes later is not seen
                    state = head(states[place : place + 1], between[None])[0, ahead - 1]
                    own = float(document.weights[place + ahead]) * (0.25 if first <= target < last else 1.0) * 0.7 ** (ahead - 1)
                    wanted -= own * float((state @ table.T).log_softmax(dim=0)[target])
                    weight += own
    assert term.weight == 0.5 and term.total.item() == pytest.approx(wanted, rel=1e-6)
    assert float(term.count) == pytest.approx(weight) == pytest.approx(float(share.counts["future_tokens"]))


def test_the_model_learns_of_it_and_the_head_is_a_part_of_its_own():
    trained = student(FutureTokens(tokens=3, heads=2))
    share = trained.share([pack(documents(range(2, 6)))])
    trained.loss(share.batches[0], 0.0)["future_tokens"].total.backward()
    assert all(weight.grad is not None and weight.grad.any() for _, weight in trained.weights())
    names = [name for name, _ in trained.weights() if name.startswith("objectives.")]
    assert len(names) > 10 and {part_of(name) for name in names} == {"objectives"}
    plain = student(NextToken())
    assert not list(plain.heads) and not any(name.startswith("objectives.") for name, _ in plain.weights())


def test_a_pack_with_nothing_ahead_runs_the_same_modules():
    trained = student(FutureTokens(tokens=3, heads=2, weights={"text": 0, "special": 0, "image": 0, "speech": 0}))
    share = trained.share([pack(documents(range(2, 6)))])
    term = trained.loss(share.batches[0], 0.0)["future_tokens"]
    term.total.backward()
    assert term.total.item() == float(term.count) == 0.0
    assert all(weight.grad is not None for weight in trained.heads.parameters())


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="future_tokens: heads: 7, expected a divisor of the width 24"):
        student(FutureTokens(heads=7))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("heads_ranks.py", tmp_path_factory.mktemp("heads"))


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["step-2-0", "step-2-3"])
def test_ranks_and_stages_change_nothing(results, name):
    one, two = results["step-1-0"], results[name]
    assert not any(two["codes"]) and one["loss"] == pytest.approx(two["loss"], abs=2e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 2e-6


@pytest.mark.ranks
def test_a_run_resumes_with_the_same_bits(results):
    run = results["resumed"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["resumed"] == run["straight"] and all(run["same_files"])
    assert run["heads"] == [True, True]
