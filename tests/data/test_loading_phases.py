"""Phases of a mixture: which documents come when, once a pass of their source, whatever the ranks and interruptions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.data.loading.loader import WINDOW, Loader
from mmpt.data.loading.phases import Phase, phase_order, sequence
from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError, DataError

from .test_loading_loader import digest, stream
from .token_sets import SETTINGS, write

PHASES = [Phase(4, (1.0, 0.0)), Phase(7, (1.0, 0.5)), Phase(10, (0.0, 1.0))]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[TokenShards]:
    folder = tmp_path_factory.mktemp("phases")
    return [write(folder, "first", 2300), write(folder, "second", 910)]


def seen(sources, steps: int, **changes) -> list[list[str]]:
    """The documents of each step."""
    loader = Loader(sources, **{**SETTINGS, "phases": PHASES, **changes})
    return [[name for batch in batches for name in batch.document_ids] for _, batches in zip(range(steps), loader, strict=False)]


def test_a_phase_begins_with_its_step_and_mixes_as_its_weights_say(sources):
    steps = seen(sources, 14)
    shares = [np.mean([name.startswith("second") for name in step]) for step in steps]
    assert shares[:4] == [0.0] * 4 and shares[7:] == [1.0] * 7
    counts = Counter(name.split("-")[0] for step in steps[4:7] for name in step)
    assert counts["second"] / counts["first"] == pytest.approx(0.5 * 910 / 2300, rel=0.15)


def test_a_source_goes_on_where_it_stood_over_the_borders(sources):
    cut = [Phase(3, (1.0, 0.4)), Phase(6, (1.0, 2.0)), Phase(9, (1.0, 0.1)), Phase(12, (1.0, 0.4))]
    names = Counter(name for step in seen(sources, 9, phases=cut) for name in step)
    assert sum(names.values()) > 500
    # No document comes twice before its source is through, but for those that packs took out of turn at a border.
    assert sum(count - 1 for name, count in names.items() if name.startswith("first")) <= 30 < WINDOW


def test_blocks_of_any_size_give_every_document_once_a_pass():
    sizes = np.array([5, 0, 17, 3])
    for block_documents in (1, 4, 7, 25, 100):
        rows = sequence(sizes, 2, 0, 75, 9, block_documents)
        for turn in range(3):
            assert len({tuple(row) for row in rows[25 * turn : 25 * (turn + 1)].tolist()}) == 25
        parts = [sequence(sizes, 2, start, min(start + 8, 75), 9, block_documents) for start in range(0, 75, 8)]
        assert np.array_equal(np.concatenate(parts), rows)


def test_within_a_block_each_source_keeps_its_order():
    shards = [np.array([40]), np.array([20])]
    rows = phase_order(shards, [40, 20], [7, 3], (1, 2, 0, 0), 1)
    for source, (count, before) in enumerate([(40, 7), (20, 3)]):
        assert np.array_equal(rows[rows[:, 0] == source], sequence(shards[source], source, before, before + count, 1))
    assert 0 < (rows[:20, 0] == 1).sum() < 20  # mixed


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 12), st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1 << 18, 50]))
def test_killed_at_any_step_and_resumed_on_any_number_of_ranks_it_goes_on_bit_for_bit(
    sources, killed_at, before, after, block_documents
):
    options = {"phases": PHASES, "block_documents": block_documents}
    expected, end = stream(sources, steps=12, **options)
    first, state = stream(sources, steps=killed_at, world_size=before, **options)
    then, end_too = stream(sources, steps=12 - killed_at, world_size=after, state=state, **options)
    assert first + then == expected and end_too == end


def test_a_step_can_be_read_without_the_ones_before_it(sources):
    loader = Loader(sources, **SETTINGS, phases=PHASES)
    steps = [[digest(batch) for batch in batches] for _, batches in zip(range(9), loader, strict=False)]
    assert [digest(batch) for batch in Loader(sources, **SETTINGS, phases=PHASES).read_step(8)] == steps[7]


def test_without_phases_the_state_is_as_it_was_and_other_phases_are_refused(sources):
    plain = Loader(sources, **SETTINGS).state_dict()
    assert plain.keys() == {"format", "step", "epoch", "block", "pack", "settings", "fingerprint"}
    assert "phases" not in plain["settings"]
    state = Loader(sources, **SETTINGS, phases=PHASES).state_dict()
    with pytest.raises(DataError, match="phases: "):
        Loader(sources, **SETTINGS, phases=PHASES[:2], state=state)
    with pytest.raises(DataError, match="phase 3"):
        Loader(sources, **SETTINGS, phases=PHASES, state={**state, "phase": 3})
    with pytest.raises(DataError, match="phase 0 of documents"):
        Loader(sources, **SETTINGS, phases=PHASES, state={**state, "taken": [1]})
    with pytest.raises(ConfigError, match="neither mixture nor epochs"):
        Loader(sources, **SETTINGS, phases=PHASES, epochs=1)
