"""The canonical order: each source as often as its weight says, a pure function of seed and epoch."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.loading.order import document_order
from mmpt.errors import ConfigError


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, 0.5, 1.0, 1.25, 2.5])), min_size=1, max_size=4),
    st.integers(0, 2**40),
    st.integers(0, 9),
)
def test_each_document_comes_as_often_as_its_weight_says(sources, seed, epoch):
    sizes, weights = map(list, zip(*sources, strict=True))
    order = document_order(sizes, weights, seed, epoch)
    assert order.dtype == np.int64 and order.shape[1] == 2
    assert np.array_equal(order, document_order(sizes, weights, seed, epoch))
    for source, (size, weight) in enumerate(sources):
        counts = np.bincount(order[order[:, 0] == source, 1], minlength=size)
        assert len(counts) == size and abs(counts.sum() - size * weight) <= 0.5
        assert set(counts.tolist()) <= {int(weight), int(weight) + (weight % 1 > 0)}


def test_epochs_and_seeds_give_unlike_orders_and_halves():
    orders = [document_order([400], [0.5], seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        common = set(orders[one][:, 1].tolist()) & set(orders[other][:, 1].tolist())
        assert 60 < len(common) < 140, "two random halves share about half"


def test_the_order_is_well_mixed():
    order = document_order([3000, 3000], [1.0, 1.0], 7, 0)
    shares = order[:, 0].reshape(20, 300).mean(axis=1)
    assert (abs(shares - 0.5) < 0.15).all()
    own = order[order[:, 0] == 0, 1]
    assert abs(np.corrcoef(own, np.arange(3000))[0, 1]) < 0.08


def test_the_order_never_changes():
    """A run resumed years later must meet the same documents. Changing this golden value breaks every saved loader state."""
    order = document_order([5, 3], [1.0, 2.0], 1, 2)
    raw = np.random.PCG64(np.random.SeedSequence((1, 2))).random_raw(5 + 3 + 11)[8:]
    rows = [(0, n) for n in range(5)] + [(1, n) for n in range(3)] * 2
    assert order.tolist() == [list(rows[place]) for place in sorted(range(11), key=lambda place: raw[place])]
    assert (
        hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
        == "840dea3b84d5a23d1c364ef9f5e091b6fe723050bb87c6ae12837906e2161da0"
    )


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ConfigError, match="mixture"):
        document_order([3, 3], weights, 0, 0)
    with pytest.raises(ConfigError, match="seed is -1"):
        document_order([3], [1.0], -1, 0)
