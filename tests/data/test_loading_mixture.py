"""Token budgets become weights: met within 1 %, near the prior where there is freedom, refused where they cannot be met."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.loading.mixture import mixture_weights
from mmpt.errors import ConfigError

TEXT, PICTURES, SPEECH = [1000, 10, 0, 0], [100, 50, 800, 0], [200, 20, 0, 2000]


def test_budgets_worked_out_by_hand():
    tokens = np.array([TEXT, PICTURES, SPEECH])
    weights = mixture_weights(tokens, {"text": 5000, "image": 1600, "speech": 4000}, [1.0, 1.0, 1.0])
    # Two passes of pictures, two of speech; their 600 tokens of text leave 4,400 for the first.
    assert weights == pytest.approx([4.4, 2.0, 2.0], rel=1e-3)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 6), st.data())
def test_any_budget_that_some_weights_reach_is_met(count, data):
    tokens = np.array(
        data.draw(st.lists(st.lists(st.integers(0, 10**6), min_size=4, max_size=4), min_size=count, max_size=count))
    )
    chosen = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=count, max_size=count)))
    totals = tokens.T @ chosen
    budgets = {name: total for name, total in zip(("text", "special", "image", "speech"), totals, strict=True) if total > 0}
    if budgets:
        weights = np.array(mixture_weights(tokens, budgets, [1.0] * count))
        assert (weights >= 0).all()
        found = dict(zip(("text", "special", "image", "speech"), tokens.T @ weights, strict=True))
        assert all(found[name] == pytest.approx(budget, rel=0.01) for name, budget in budgets.items())


def test_freedom_keeps_the_prior():
    tokens = np.array([TEXT, TEXT, SPEECH])
    weights = mixture_weights(tokens, {"text": 4000 + 200, "speech": 2000}, [1.0, 3.0, 1.0])
    assert weights == pytest.approx([1.0, 3.0, 1.0], rel=1e-3)


def test_what_cannot_be_met_is_refused_with_the_nearest():
    tokens = np.array([PICTURES, SPEECH])
    with pytest.raises(ConfigError, match=r"text: 10 tokens wanted"):
        mixture_weights(tokens, {"text": 10, "image": 8000, "speech": 2000}, [1.0, 1.0])
    with pytest.raises(ConfigError, match="image: 5 tokens wanted, 0 is the nearest"):
        mixture_weights(np.array([TEXT]), {"image": 5}, [1.0])
    with pytest.raises(ConfigError, match="taste is no modality"):
        mixture_weights(tokens, {"taste": 10}, [1.0, 1.0])
    with pytest.raises(ConfigError, match="above 0"):
        mixture_weights(tokens, {"text": 0}, [1.0, 1.0])
