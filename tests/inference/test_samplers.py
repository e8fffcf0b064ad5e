"""Samplers against plain Python and transformers' own, the same draws for the same seed, rows that do not touch each other."""

import math

import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.greedy import Greedy
from mmpt.inference.samplers.min_p import MinP
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0, -3.0])
NONE = torch.zeros(1, 6, dtype=torch.bool)
PLAIN, CUT = [49, 10, 47, 5, 36, 41, 39, 29], [33, 44, 34, 44, 40, 49, 48, 46]


def frequencies(sampler: Sampler, draws: int = 4000) -> torch.Tensor:
    """[6], by one call for all draws."""
    numbers = torch.rand(draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.bincount(sampler.choose(LOGITS.expand(draws, -1).clone(), numbers), minlength=6) / draws


def test_greedy_takes_the_likeliest_and_no_random_number():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert choose(LOGITS[None], NONE, [Greedy()], [generator]) == [0]
    assert choose(LOGITS[None], NONE, [TopP(top_p=0.5)], [generator]) == [0]  # temperature 0
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.1), (1.0, 0.3), (2.0, 0.3), (0.5, 0.05), (1.0, 0.0), (1.0, 1.0)])
def test_min_p_keeps_what_has_its_share_of_the_likeliest(temperature, share):
    weights = [math.exp(float(one) / temperature) for one in LOGITS]
    kept = [weight if weight >= share * max(weights) else 0.0 for weight in weights]
    wanted = torch.tensor([weight / sum(kept) for weight in kept])
    found = frequencies(MinP(temperature=temperature, min_p=share))
    assert (found - wanted).abs().max() < 0.03 and not found[wanted == 0].any()
    if 0 < share < 1:
        theirs = MinPLogitsWarper(share)(torch.zeros(1, 1), LOGITS[None] / temperature)[0].softmax(-1)
        assert (theirs - wanted).abs().max() < 1e-6


@pytest.mark.parametrize(("top_p", "top_k"), [(0.6, 0), (0.9, 0), (1.0, 2), (0.8, 3)])
def test_top_p_and_top_k_keep_what_transformers_keeps(top_p, top_k):
    scores = LOGITS[None] / 1.3
    scores = TopKLogitsWarper(top_k)(torch.zeros(1, 1), scores) if top_k else scores
    wanted = TopPLogitsWarper(top_p)(torch.zeros(1, 1), scores)[0].softmax(-1)
    found = frequencies(TopP(temperature=1.3, top_p=top_p, top_k=top_k))
    assert (found - wanted).abs().max() < 0.03 and not found[wanted == 0].any()


def test_the_same_seed_draws_what_it_always_drew():
    """Ids of version 0.1.0: a change of these changes every answer that was given with a seed."""
    logits = torch.linspace(-2, 2, 50).sin().repeat(8, 1) + torch.arange(8).unsqueeze(1) / 50

    def drawn(sampler: Sampler) -> list[int]:
        generators = [torch.Generator().manual_seed(number) for number in range(8)]
        return choose(logits, torch.zeros(8, 50, dtype=torch.bool), [sampler] * 8, generators)

    assert drawn(TopP(temperature=1.0)) == PLAIN
    assert drawn(TopP(temperature=0.8, top_p=0.9, top_k=20)) == CUT


def test_a_row_draws_the_same_whatever_the_others_samplers_are():
    samplers = [
        Greedy(),
        TopP(temperature=1.0),
        TopP(temperature=1.0, top_p=0.7),
        MinP(),
        TopP(temperature=1.0),
        TopP(temperature=2),
    ]
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(1))
    forbidden = torch.zeros(6, 30, dtype=torch.bool)
    forbidden[:, :5] = True

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(number) for number in range(6)]

    together = choose(logits, forbidden, samplers, generators())
    alone = [choose(logits[n : n + 1], forbidden[n : n + 1], [samplers[n]], [generators()[n]])[0] for n in range(len(samplers))]
    assert together == alone and min(together) >= 5


def test_a_section_without_kind_is_top_p_as_ever():
    found = parse_config(
        {"text": {"temperature": 0.8}, "image": {"kind": "min_p", "min_p": 0.2}, "speech": "greedy"}, Settings, "s"
    )
    assert (found.text, found.image, found.speech) == (TopP(temperature=0.8), MinP(min_p=0.2), Greedy())
    assert found.sampler("text") is found.sampler("<|end|>") is found.text and found.sampler("image") is found.image
    with pytest.raises(ConfigError, match=r"2 mistakes\n.*text.temperature.*\n.*image: no sampler 'min_b', did you mean min_p\?"):
        parse_config({"image": {"kind": "min_b"}, "text": {"temperature": -1}}, Settings, "s")
