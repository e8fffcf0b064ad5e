"""Packs hold whole documents within the budget, and their tensors never let one document see another."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.loading.packing import IGNORED, PackedBatch, pack, plan_packs
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import DataError


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 40), max_size=80), st.integers(1, 35), st.integers(1, 20))
def test_every_document_is_in_one_pack_within_budget_and_window_or_dropped(lengths, budget, window):
    lengths = np.array(lengths, dtype=np.int64)
    packs, dropped = plan_packs(lengths, budget, window)
    assert dropped.tolist() == [place for place, length in enumerate(lengths) if not 0 < length <= budget]
    kept = [place for place in range(len(lengths)) if place not in set(dropped.tolist())]
    assert sorted(place for places in packs for place in places.tolist()) == kept
    left = list(kept)
    for number, places in enumerate(packs):
        assert 0 < lengths[places].sum() <= budget
        if len(left) <= window:  # all in view: shared out evenly
            assert sorted(place for rest in packs[number:] for place in rest.tolist()) == left
            loads = [int(lengths[rest].sum()) for rest in packs[number:]]
            assert max(loads) - min(loads) <= lengths[left].max()
            break
        assert places[0] == left[0], "the oldest document opens the pack"
        for place in places.tolist():
            assert place in left[:window], "a pack reaches no further than the window"
            left.remove(place)
        space = budget - lengths[places].sum()
        assert all(lengths[place] > space for place in left[:window]), "nothing in view would still have fitted"


def test_a_plan_worked_out_by_hand():
    # Budget 10: 6 opens, 5 does not fit, of the rest the longest up to 4 is the 4, exactly. Then all is in view, 26 tokens for
    # three packs: 9, 7 and 5 open them, the 3 goes to the 5, and the 2 to the 7.
    packs, dropped = plan_packs(np.array([6, 5, 3, 11, 4, 2, 9, 7]), budget=10, window=5)
    assert [places.tolist() for places in packs] == [[0, 4], [1, 2], [5, 7], [6]]
    assert dropped.tolist() == [3]
    # Equal lengths: the earlier one.
    assert [places.tolist() for places in plan_packs(np.array([6, 5, 4, 4]), 10, window=3).packs] == [[0, 2], [1, 3]]
    # Two pictures at most in a pack: the third 2 must open another.
    packs, dropped = plan_packs(np.array([2, 2, 2]), 10, images=np.array([1, 1, 1]), max_images=2)
    assert sorted(len(places) for places in packs) == [1, 2] and not len(dropped)


def test_packs_of_short_documents_are_full_and_planned_quickly():
    lengths = np.random.default_rng(0).integers(20, 81, 100_000)
    start = time.process_time()
    packs, _ = plan_packs(lengths, 1024)
    assert time.process_time() - start < 1.0
    assert lengths.sum() / (1024 * len(packs)) >= 0.99


documents = st.lists(
    st.builds(
        lambda name, ids, weighted: TokenDocument(
            name, "test", np.array(ids, dtype=np.uint16), np.arange(len(ids), dtype=np.float32) if weighted else None
        ),
        st.text(max_size=5),
        st.lists(st.integers(0, 65535), min_size=1, max_size=12),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=100)
@given(documents)
def test_tensors_equal_a_slow_reference(content):
    ids, targets, weights, positions, edges = [], [], [], [], [0]
    for document in content:
        own = document.ids.tolist()
        own_weights = [1.0] * len(own) if document.weights is None else document.weights.tolist()
        for place, token in enumerate(own):
            last = place == len(own) - 1
            ids.append(token)
            targets.append(-100 if last else own[place + 1])
            weights.append(0.0 if last else own_weights[place + 1])
            positions.append(place)
        edges.append(edges[-1] + len(own))
    batch = pack(content)
    for tensor, row, dtype in [
        (batch.input_ids, [ids], torch.int64),
        (batch.targets, [targets], torch.int64),
        (batch.weights, [weights], torch.float32),
        (batch.position_ids, [positions], torch.int64),
        (batch.cu_seqlens, edges, torch.int32),
    ]:
        assert tensor.dtype == dtype and tensor.tolist() == row
    assert batch.document_ids == tuple(document.id for document in content)


def test_a_pack_worked_out_by_hand_moves_between_devices():
    batch = pack([TokenDocument("a", "", np.array([5, 6, 7]), np.array([0.0, 0.5, 1.0])), TokenDocument("b", "", np.array([8]))])
    assert batch.targets.tolist() == [[6, 7, IGNORED, IGNORED]] and batch.weights.tolist() == [[0.5, 1.0, 0.0, 0.0]]
    moved = batch.to("meta")
    assert isinstance(moved, PackedBatch) and moved.document_ids == ("a", "b")
    assert {row.device.type for row in (moved.input_ids, moved.targets, moved.weights, moved.position_ids)} == {"meta"}
    assert moved.cu_seqlens.device.type == "cpu" and moved.cu_seqlens.tolist() == [0, 3, 4]


def test_an_empty_pack_is_refused():
    for content in ([], [TokenDocument("a", "", np.array([], dtype=np.uint16))]):
        with pytest.raises(DataError, match="at least one"):
            pack(content)
