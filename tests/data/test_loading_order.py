"""The canonical order: each source as often as its weight says, every block mixed as the whole, nothing by chance."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.loading.order import block_count, block_order, epoch_documents
from mmpt.errors import ConfigError


def epoch_order(shards: list, weights: list[float], seed: int, epoch: int, block_documents: int = 1000) -> list[np.ndarray]:
    documents = epoch_documents(shards, weights)
    blocks = block_count(documents, block_documents)
    return [block_order(shards, documents, seed, epoch, block, blocks) for block in range(blocks)]


shard_sizes = st.lists(st.integers(0, 12), min_size=0, max_size=5).map(lambda sizes: np.array(sizes, dtype=np.int64))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(shard_sizes, st.sampled_from([0.0, 0.5, 1.0, 1.25, 2.5])), min_size=1, max_size=4),
    st.integers(0, 2**40),
    st.integers(0, 9),
    st.integers(1, 40),
)
def test_each_document_comes_as_often_as_its_weight_says(sources, seed, epoch, block_documents):
    shards, weights = map(list, zip(*sources, strict=True))
    blocks = epoch_order(shards, weights, seed, epoch, block_documents)
    again = epoch_order(shards, weights, seed, epoch, block_documents)
    assert all(np.array_equal(one, other) for one, other in zip(blocks, again, strict=True))
    assert len(blocks) == max(1, -(-sum(map(len, blocks)) // block_documents))
    order = np.concatenate(blocks)
    assert order.dtype == np.int64 and order.shape[1] == 3
    for source, (sizes, weight) in enumerate(sources):
        own = order[order[:, 0] == source]
        assert abs(len(own) - sizes.sum() * weight) <= 0.5
        seen = {}
        for shard, number in own[:, 1:].tolist():
            assert 0 <= number < sizes[shard]
            seen[shard, number] = seen.get((shard, number), 0) + 1
        expected = {int(weight), int(weight) + (weight % 1 > 0)}
        assert set(seen.values()) <= expected and (int(weight) == 0 or len(seen) == sizes.sum())
        # Every block holds its share of every source, to a document.
        for block in blocks:
            assert abs((block[:, 0] == source).sum() - len(own) / len(blocks)) < 1


@pytest.mark.parametrize("weight", [0.3, 1.3])
def test_of_a_part_of_a_pass_each_shard_gives_its_share(weight):
    sizes = np.array([50, 10, 200, 40, 1])
    for epoch in range(5):
        order = np.concatenate(epoch_order([sizes], [weight], 3, epoch, 70))
        for shard, size in enumerate(sizes.tolist()):
            assert abs((order[:, 1] == shard).sum() - weight * size) <= 1.5


def test_every_document_gets_its_turn_over_many_epochs():
    seen = np.zeros(60)
    for epoch in range(200):
        order = np.concatenate(epoch_order([np.array([10, 50])], [0.3], 0, epoch))
        seen[np.where(order[:, 1] == 0, order[:, 2], 10 + order[:, 2])] += 1
    assert seen.sum() == 200 * 18 and abs(seen - 60).max() < 30


def test_epochs_and_seeds_give_unlike_orders_and_halves():
    orders = [np.concatenate(epoch_order([np.array([400])], [0.5], *key)) for key in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        common = set(orders[one][:, 2].tolist()) & set(orders[other][:, 2].tolist())
        assert 60 < len(common) < 140, "two random halves share about half"


def test_a_block_is_well_mixed_and_touches_few_shards():
    shards = [np.full(300, 10), np.array([3000])]
    blocks = epoch_order(shards, [1.0, 1.0], 7, 0, 1500)
    assert len(blocks) == 4
    for block in blocks:
        shares = block[:, 0].reshape(5, 300).mean(axis=1)
        assert (abs(shares - 0.5) < 0.15).all()
        assert len(set(block[block[:, 0] == 0, 1].tolist())) == 75, "a quarter of the shards, each whole"
        own = block[block[:, 0] == 1, 2]
        assert abs(np.corrcoef(own, np.arange(len(own)))[0, 1]) < 0.12


def test_the_order_never_changes():
    """A run resumed years later must meet the same documents. Changing this golden value breaks every saved loader state."""

    def permutation(*key: int) -> list[int]:
        size = key[-1]
        raw = np.random.PCG64(np.random.SeedSequence(key[:-1])).random_raw(size)
        return sorted(range(size), key=lambda place: raw[place])

    order = epoch_order([np.array([2, 3]), np.array([3])], [1.0, 2.0], 1, 2)
    rows = [[0, shard, n] for shard in permutation(1, 2, 1, 0, 0, 2) for n in permutation(1, 2, 2, 0, 0, shard, [2, 3][shard])]
    rows += [[1, 0, n] for turn in (0, 1) for n in permutation(1, 2, 2, 1, turn, 0, 3)]
    assert len(order) == 1 and order[0].tolist() == [rows[place] for place in permutation(1, 2, 0, 0, 11)]
    assert hashlib.sha256(order[0].astype("<i8").tobytes()).hexdigest() == GOLDEN


GOLDEN = "4221c22aad821297e3c2fb249206ba64cffb11a39db2879b4c38419ef60a127c"


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ConfigError, match="mixture"):
        epoch_documents([np.array([3]), np.array([3])], weights)
    with pytest.raises(ConfigError, match="seed is -1"):
        block_order([np.array([3])], [3], -1, 0, 0, 1)
