"""Schedules: what the papers' formulas give, computed independently."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.training.schedules import Schedule
from mmpt.training.schedules.cosine import Cosine
from mmpt.training.schedules.infinite import Infinite
from mmpt.training.schedules.linear import Linear
from mmpt.training.schedules.wsd import Wsd


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["cosine", "linear", "constant", "wsd"]),
    steps=st.integers(2, 300),
    warmup=st.floats(0, 0.5),
    least=st.floats(0, 1),
)
def test_every_schedule_rises_to_the_full_rate_and_never_again(kind, steps, warmup, least):
    warmup_steps, decay = int(warmup * steps), max(1, steps // 4)
    own = {"decay_steps": decay} if kind == "wsd" else {}
    own |= {} if kind == "constant" else {"floor": least}
    schedule = Schedule.member(kind)(warmup_steps=warmup_steps, **own)
    schedule.check(steps)
    factors = [schedule.factor(step, steps) for step in range(1, steps + 1)]
    assert all(0 < factor <= 1.0 or least == 0.0 for factor in factors)
    assert factors[:warmup_steps] == pytest.approx([(i + 1) / warmup_steps for i in range(warmup_steps)])
    assert all(one >= other - 1e-12 for one, other in zip(factors[warmup_steps:], factors[warmup_steps + 1 :], strict=False))
    assert factors[-1] == pytest.approx(1.0 if kind == "constant" else least, abs=1e-12)
    if kind == "wsd" and warmup_steps < steps - decay:
        assert factors[steps - decay - 1] == 1.0


def test_golden_values():
    assert Cosine(warmup_steps=10, floor=0.1).factor(35, 110) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert Linear(warmup_steps=10, floor=0.2).factor(60, 110) == pytest.approx(0.6)
    assert Wsd(decay_steps=10, floor=0.0).factor(97, 100) == pytest.approx(0.3)


def test_an_infinite_schedule_and_a_warmup_that_does_not_start_at_0():
    schedule = Infinite(warmup_steps=4, warmup_from=0.5, cooldown_steps=10, decay_steps=5, floor=0.25)
    factors = [schedule.factor(step, 50) for step in range(1, 51)]
    assert factors[:4] == pytest.approx([0.625, 0.75, 0.875, 1.0])
    assert factors[8] == pytest.approx(0.25 + 0.75 * 0.5)  # half way down the cosine
    assert factors[13:45] == pytest.approx([0.25] * 32)
    assert factors[45:] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0])
    endless = Infinite(cooldown_steps=10, floor=0.25)
    assert endless.factor(50, 50) == 0.25 and endless.phases == 10


def test_phases_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="warmup_steps is 6, expected fewer than steps .6."):
        Cosine(warmup_steps=6).check(6)
    with pytest.raises(ValueError, match="the phases of wsd take 8 steps, more than steps .7."):
        Wsd(warmup_steps=3, decay_steps=5).check(7)
