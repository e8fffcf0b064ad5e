"""Between a batch's way to the device and the sums at the end of a step, no value is asked back: a GPU need not be waited for."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from losses import weighted_loss
from torch.utils._python_dispatch import TorchDispatchMode

from mmpt.config import parse_config
from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument, paired
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.feature_inputs import FeatureInputConfig, FeatureInputs
from mmpt.model.forward import supervise
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel, Start
from mmpt.training.objectives.dpo import Dpo
from mmpt.training.objectives.grpo import Grpo
from mmpt.training.objectives.next_token import NextToken

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
import feature_ranks  # noqa: E402
import ranks  # noqa: E402

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2", "repeat_interleave")
"""Operations whose result a program, or the shape of a tensor, waits for."""


class Asked(TorchDispatchMode):
    """Names of the operations that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        masks = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        told = name == "repeat_interleave" and (options or {}).get("output_size") is not None  # the length is known
        if (name in WAITING and not told) or any(mask is not None and mask.dtype == torch.bool for mask in masks):
            self.names.append(name)
        return function(*arguments, **(options or {}))


def documents() -> list[TokenDocument]:
    draw = np.random.default_rng(0)
    made = [(draw.choice(ranks.IDS, length), draw.choice([0.0, 1.0], length)) for length in (5, 9, 3)]
    return [TokenDocument(str(n), "test", ids, weights.astype(np.float32)) for n, (ids, weights) in enumerate(made)]


def asked(model, batch, inputs=None, known: bool = True) -> list[str]:
    weights = torch.ones(4)
    if known:
        batch, _ = supervise(batch, weights, ranks.VOCABULARY)
    with Asked() as mode:
        weighted_loss(model, batch, weights, ranks.VOCABULARY, inputs=inputs)["next_token"].total.backward()
    return mode.names


def test_a_forward_and_backward_pass_asks_for_nothing():
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), ranks.VOCABULARY.size, seed=0)
    assert asked(model, pack(documents())) == []
    assert "nonzero" in asked(model, pack(documents()), known=False)  # so this would be seen


def test_neither_does_one_with_pictures(tmp_path):
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), ranks.VOCABULARY.size, seed=0)
    config = parse_config(feature_ranks.features(tmp_path)["image"], FeatureInputConfig, "test")
    inputs = FeatureInputs({"image": config}, model)
    shown = [feature_ranks.document("a", "image", feature_ranks.picture("red", 0), 5), *documents()]
    batch = pack(shown, [[inputs.read(medium) for medium in document.media] for document in shown])
    assert asked(model, batch, inputs) == []


def test_neither_do_preferences_and_advantages():
    own, start = (build_backbone(BackboneConfig(config=ranks.BACKBONE), ranks.VOCABULARY.size, seed=n) for n in (0, 1))
    world = World(0, 1, torch.device("cpu"))
    trained = LanguageModel(own, ranks.VOCABULARY, [NextToken(), Dpo(), Grpo()], world, start=Start(start))
    one, other, *_ = documents()
    (batch,) = trained.share([pack([paired(one, other), replace(one, advantage=1.0), replace(other, advantage=-1.0)])]).batches
    with Asked() as mode:
        terms = trained.loss(batch, 0.0)
        sum(term.total * term.weight for term in terms.values() if term.weight).backward()
    assert mode.names == [] and all(terms[name].count.item() for name in ("next_token", "dpo", "grpo"))


def test_the_weights_of_a_step_are_summed_on_the_host():
    factors = {"text": 1.0, "special": 2.0, "image": 0.0, "speech": 0.5}
    batch, total = supervise(pack(documents()), torch.tensor(list(factors.values())), ranks.VOCABULARY)
    by_hand, kept = 0.0, []
    for place, (target, weight) in enumerate(zip(batch.targets[0].tolist(), batch.weights[0].tolist(), strict=True)):
        kind = next((name for name, (low, high) in ranks.VOCABULARY.ranges().items() if low <= target < high), "text")
        by_hand += weight * factors[kind]
        kept += [place] if weight * factors[kind] else []
    assert float(total) == by_hand > 0 and batch.supervised.tolist() == kept
