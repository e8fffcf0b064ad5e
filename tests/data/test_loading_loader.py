"""The resume contract: what step n trains on depends on (data, mixture, seed) alone.

Not on the number of ranks, not on when the run was killed, not on how many ranks it was resumed with. Every test here hashes
or compares the packs themselves, put back into the order of the one global stream.
"""

import dataclasses
import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.data.loading.loader import Loader
from mmpt.data.loading.packing import PackedBatch
from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError, DataError, VocabularyError

from .token_sets import SETTINGS, VOCABULARY, write


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[TokenShards]:
    folder = tmp_path_factory.mktemp("sources")
    return [write(folder, "first", 230), write(folder, "second", 91)]


def digest(batch: PackedBatch) -> str:
    tensors = (batch.input_ids, batch.targets, batch.weights, batch.position_ids, batch.cu_seqlens)
    content = b"".join(tensor.numpy().tobytes() for tensor in tensors) + repr(batch.document_ids).encode()
    return hashlib.sha256(content).hexdigest()


def stream(
    sources: list[TokenShards], steps: int, world_size: int = 1, state: dict | None = None, **changes
) -> tuple[list[str], dict]:
    """(digests of the packs of the next steps in the order of the global stream, state after them) as all ranks see them."""
    loaders = [Loader(sources, **{**SETTINGS, **changes}, rank=r, world_size=world_size, state=state) for r in range(world_size)]
    iterators = [iter(loader) for loader in loaders]
    found = []
    for _ in range(steps):
        shares = [[digest(batch) for batch in next(iterator)] for iterator in iterators]
        assert {len(share) for share in shares} == {SETTINGS["packs_per_step"] // world_size}
        found += [one for group in zip(*shares, strict=True) for one in group]
    states = [json.dumps(loader.state_dict()) for loader in loaders]
    assert len(set(states)) == 1, "every rank saves the same state"
    return found, json.loads(states[0])


def test_the_stream_is_the_same_for_any_number_of_ranks(sources):
    expected, state = stream(sources, steps=9)
    assert state["epoch"] >= 1 and state["step"] == 9, "the stream crosses an epoch"
    assert len(set(expected)) == len(expected)
    for world_size in (2, 3, 4, 6, 12):
        assert stream(sources, steps=9, world_size=world_size) == (expected, state)
    assert stream(sources, steps=9, seed=4)[0] != expected


@pytest.mark.slow
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 12), st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2, 3, 4, 6]))
def test_killed_at_any_step_and_resumed_on_any_number_of_ranks_it_goes_on_bit_for_bit(sources, killed_at, before, after):
    expected, end = stream(sources, steps=15, mixture=[1.0, 1.5])
    first, state = stream(sources, steps=killed_at, world_size=before, mixture=[1.0, 1.5])
    then, end_too = stream(sources, steps=15 - killed_at, world_size=after, state=state, mixture=[1.0, 1.5])
    assert first + then == expected and end_too == end


def test_the_state_is_that_of_the_last_step_yielded_not_of_what_is_read_ahead(sources):
    loader = Loader(sources, **SETTINGS)
    assert loader.state_dict()["step"] == 0
    for step, _ in zip(range(1, 4), loader, strict=False):
        assert loader.state_dict()["step"] == step
        assert loader.state_dict()["pack"] == step * SETTINGS["packs_per_step"]
    assert len(json.dumps(loader.state_dict())) < 1000
    # A second loop over the same loader goes on where the first was left.
    next(iter(loader))
    assert loader.state_dict()["step"] == 4


def test_every_document_comes_exactly_once_in_each_epoch_at_weight_one(sources):
    loader = Loader(sources, **SETTINGS, epochs=2)
    figures = loader.describe()
    packs = [batch for step in loader for batch in step]
    assert len(packs) % SETTINGS["packs_per_step"] == 0
    expected = sorted([f"first-{n}" for n in range(230)] + [f"second-{n}" for n in range(91)])
    count = figures["packs"]
    first = [name for batch in packs[:count] for name in batch.document_ids]
    assert sorted(first) == expected and first != expected
    # The second epoch has a plan of its own: it begins in the middle of a step, and so do the packs that fill its last one.
    rest = [name for batch in packs[count:] for name in batch.document_ids]
    assert sorted(rest[: len(expected)]) == expected and rest[: len(expected)] != first
    assert len(packs) < 2 * count + 2 + SETTINGS["packs_per_step"]


def test_tokens_and_weights_are_those_of_the_documents(sources):
    by_id = {document.id: document for source in sources for document in source}
    for batch in next(iter(Loader(sources, **SETTINGS))):
        assert batch.input_ids.shape[1] <= SETTINGS["pack_tokens"]
        for name, start, end in zip(batch.document_ids, batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
            document = by_id[name]
            assert batch.input_ids[0, start:end].tolist() == document.ids.tolist()
            assert batch.targets[0, start:end].tolist() == [*document.ids[1:].tolist(), -100]
            own = np.ones(len(document.ids)) if document.weights is None else document.weights
            assert batch.weights[0, start:end].tolist() == [*own[1:].tolist(), 0.0]


@pytest.mark.slow
def test_figures_are_those_of_the_packs(tmp_path):
    source = write(tmp_path, "long", 400, high=300)
    loader = Loader([source], pack_tokens=256, packs_per_step=1, seed=0, epochs=1, long_documents="drop")
    figures = loader.describe()
    lengths = [batch.input_ids.shape[1] for step in loader for batch in step]
    fitting = source.lengths[source.lengths <= 256]
    assert figures["packs"] == figures["steps"] == len(lengths)
    assert figures["tokens"] == sum(lengths) == fitting.sum()
    assert figures["dropped_documents"] == 400 - len(fitting) > 0 and figures["documents"] == len(fitting)
    left_out = source.lengths.sum() - fitting.sum()
    assert figures["tokens_left_out"] == left_out and figures["share_left_out"] == left_out / source.lengths.sum()
    assert f"left out: {left_out / source.lengths.sum():.2%} of the tokens" in loader.summary()
    assert figures["fill"] == pytest.approx(sum(lengths) / len(lengths) / 256)
    short = Loader([write(tmp_path, "short", 3000)], pack_tokens=1024, packs_per_step=1, seed=0)
    assert short.describe()["fill"] >= 0.97


def test_a_state_of_other_data_or_settings_is_refused_with_what_differs(sources, tmp_path):
    state = Loader(sources, **SETTINGS).state_dict()
    for changes, reason in [
        ({"seed": 4}, "seed: 3 then, 4 now"),
        ({"pack_tokens": 128}, "pack_tokens: 256 then, 128 now"),
        ({"packs_per_step": 6}, "packs_per_step: 12 then, 6 now"),
        ({"mixture": [1.0, 2.0]}, r"mixture: \[1.0, 1.0\] then, \[1.0, 2.0\] now"),
    ]:
        with pytest.raises(DataError, match=reason):
            Loader(sources, **{**SETTINGS, **changes}, state=state)
    with pytest.raises(DataError, match="sources: "):
        Loader([sources[0], write(tmp_path, "second", 90)], **SETTINGS, state=state)
    for changes, reason in [
        ({"format": "mmpt-loader/0"}, "expected 'mmpt-loader/3'"),
        ({"pack": 10**6}, "has fewer"),
        ({"pack": -1}, "expected whole numbers"),
        ({"fingerprint": "0"}, "fingerprint"),
    ]:
        with pytest.raises(DataError, match=reason):
            Loader(sources, **SETTINGS, state={**state, **changes})


def test_the_same_data_elsewhere_is_the_same_stream(sources, tmp_path):
    _, state = stream(sources, steps=2)
    expected, _ = stream(sources, steps=3, state=state)
    moved = [write(tmp_path, "first", 230), write(tmp_path, "second", 91)]
    assert stream(moved, steps=3, state=state)[0] == expected


def test_what_cannot_be_loaded_is_refused(sources, tmp_path):
    for changes, reason in [
        ({"world_size": 5}, "packs_per_step is 12, expected a multiple of the 5 ranks"),
        ({"world_size": 2, "rank": 2}, "this is rank 2"),
        ({"packs_per_step": 0}, "packs_per_step is 0"),
        ({"mixture": [1.0]}, "1 weights for 2 sources"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            Loader(sources, **{**SETTINGS, **changes}).describe()
    with pytest.raises(ConfigError, match="no source"):
        Loader([], **SETTINGS)
    with pytest.raises(DataError, match="no document fits a pack of 10 tokens: 321 of 321 dropped"):
        next(iter(Loader(sources, pack_tokens=10, packs_per_step=1, seed=0, long_documents="drop")))
    other = write(tmp_path, "other", 3, vocabulary=dataclasses.replace(VOCABULARY, text_size=301))
    with pytest.raises(VocabularyError, match="text_size: 300 in .*first, 301 in .*other"):
        Loader([sources[0], other], **SETTINGS)


def damage(folder: Path, numbers: list[int]) -> None:
    """Flip a bit in these documents, counted over all shards."""
    shards = TokenShards(folder)
    for number in numbers:
        shard, within = divmod(number, 100)
        path = Path(shards.shard_path(shard))
        data = bytearray(path.read_bytes())
        data[int(shards.index(shard).offsets[within]) + 700] ^= 1
        path.write_bytes(data)


def test_a_damaged_document_is_left_out_and_listed_the_same_on_any_number_of_ranks(tmp_path):
    write(tmp_path, "source", 300)
    whole = Loader([TokenShards(tmp_path / "source")], pack_tokens=256, packs_per_step=4, seed=0, epochs=1)
    expected = [name for step in whole for batch in step for name in batch.document_ids]
    damage(tmp_path / "source", [5, 123])
    source = TokenShards(tmp_path / "source")
    for world_size in (1, 2, 4):
        options = {"pack_tokens": 256, "packs_per_step": 4, "seed": 0, "epochs": 1, "world_size": world_size, "max_lost": 0.1}
        loaders = [Loader([source], **options, rank=rank) for rank in range(world_size)]
        steps = [list(loader) for loader in loaders]
        packs = [batch for ranks in zip(*steps, strict=True) for group in zip(*ranks, strict=True) for batch in group]
        found = [name for batch in packs for name in batch.document_ids]
        assert [name for name in expected if name not in ("source-5", "source-123")] == [name for name in found if name][
            : len(expected) - expected.count("source-5") - expected.count("source-123")
        ]
        items = {lost.item.rpartition(" ")[2] for loader in loaders for lost in loader.lost}
        assert items == {"00000-000005", "00001-000023"}
        assert all(lost.reason == "its bytes do not match the checksum in the index" for one in loaders for lost in one.lost)


def test_a_pack_of_which_nothing_is_left_weighs_nothing(tmp_path):
    write(tmp_path, "source", 3, low=200, high=256)
    damage(tmp_path / "source", [1])
    loader = Loader([TokenShards(tmp_path / "source")], pack_tokens=256, packs_per_step=3, seed=0, epochs=1, max_lost=0.5)
    (step,) = loader
    assert len(step) == 3 and len(loader.lost) == 1
    (empty,) = [batch for batch in step if batch.document_ids == ("",)]
    assert empty.input_ids.tolist() == [[VOCABULARY.special("<|end|>")]] and empty.weights.sum() == 0


def test_too_much_damage_stops_the_loop_with_what_was_last(tmp_path):
    write(tmp_path, "source", 300)
    damage(tmp_path / "source", list(range(0, 300, 20)))
    loader = Loader([TokenShards(tmp_path / "source")], pack_tokens=256, packs_per_step=1, seed=0, epochs=1)
    with pytest.raises(
        DataError, match=r"of 1\d\d documents could not be read, more than max_lost 0.01.*shard-0000\d.tar: sample"
    ):
        list(loader)
    (tmp_path / "source" / "shard-00001.index.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="shard-00001.index.safetensors: differs from the hash"):
        next(iter(Loader([TokenShards(tmp_path / "source")], pack_tokens=256, packs_per_step=1, seed=0)))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_blocks_and_workers_change_nothing_but_where_the_work_is_done(sources, workers):
    changes = {"mixture": [1.0, 1.5], "block_documents": 90, "workers": workers}
    expected, end = stream(sources, steps=15, **{**changes, "workers": 1})
    assert end["epoch"] >= 2
    assert stream(sources, steps=15, world_size=3, **changes) == (expected, end)
    first, state = stream(sources, steps=4, world_size=2, **changes)
    assert state["block"] > 0
    then, end_too = stream(sources, steps=11, world_size=4, state=state, **changes)
    assert first + then == expected and end_too == end


def test_every_document_comes_once_an_epoch_over_all_blocks(sources):
    loader = Loader(sources, **{**SETTINGS, "packs_per_step": 1}, block_documents=50, epochs=1)
    assert loader.describe()["blocks"] == 7
    names = [name for step in loader for batch in step for name in batch.document_ids]
    assert sorted(names) == sorted([f"first-{n}" for n in range(230)] + [f"second-{n}" for n in range(91)])


def test_only_the_indices_of_the_block_are_read(tmp_path, monkeypatch):
    source = write(tmp_path, "source", 1000)
    read = []
    monkeypatch.setattr(source, "index", lambda shard, index=source.index: (read.append(shard), index(shard))[1])
    next(iter(Loader([source], pack_tokens=256, packs_per_step=1, seed=0, block_documents=100, workers=0)))
    assert len(set(read)) == 1


@pytest.mark.slow
def test_a_stalled_read_ends_the_loop_and_says_where(sources, monkeypatch):
    waiting = threading.Event()
    read = sources[0].read
    monkeypatch.setattr(sources[0], "read", lambda *place: (waiting.wait(20), read(*place))[1])
    loader = Loader(sources, **SETTINGS, workers=2, timeout=0.2)
    with pytest.raises(DataError, match=r"nothing was loaded for 0.2 s: step 1 reads from .*shard-0000"):
        next(iter(loader))
    waiting.set()


def test_the_loss_of_a_source_has_a_factor_and_nothing_else_changes(sources):
    plain, weighted = (
        next(iter(Loader(sources, **SETTINGS, **changes))) for changes in ({}, {"loss": [0.5, 3.0]})
    )  # fmt: skip
    factors = {"first": 0.5, "second": 3.0}
    for one, other in zip(plain, weighted, strict=True):
        assert one.document_ids == other.document_ids and np.array_equal(one.input_ids, other.input_ids)
        lengths = one.cu_seqlens.diff().tolist()
        each = np.repeat([factors[name.partition("-")[0]] for name in one.document_ids], lengths)
        assert np.allclose(other.weights[0], one.weights[0].numpy() * each)
    assert {name.partition("-")[0] for batch in plain for name in batch.document_ids} == {"first", "second"}


def test_a_step_can_be_read_without_the_ones_before_it(sources):
    loader = Loader(sources, **SETTINGS)
    steps = [[digest(batch) for batch in batches] for _, batches in zip(range(7), loader, strict=False)]
    for step in (7, 1, 4):
        assert [digest(batch) for batch in loader.read_step(step)] == steps[step - 1]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_one_pass_that_is_not_filled_holds_every_document_once_whatever_the_ranks(tmp_path, world_size):
    write(tmp_path, "source", 40)
    options = {"pack_tokens": 256, "packs_per_step": world_size, "seed": 0, "epochs": 1, "fill": False, "world_size": world_size}
    ranks = [list(Loader([TokenShards(tmp_path / "source")], **options, rank=rank)) for rank in range(world_size)]
    assert len({len(steps) for steps in ranks}) == 1  # all ranks take as many steps
    names = [name for steps in ranks for step in steps for batch in step for name in batch.document_ids]
    assert sorted(filter(None, names)) == sorted(f"source-{number}" for number in range(40))
    idle = [batch for steps in ranks for step in steps for batch in step if batch.document_ids == ("",)]
    assert len(idle) < world_size and all(batch.weights.sum() == 0 and batch.input_ids.numel() == 1 for batch in idle)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_ramp_gives_the_same_packs_in_steps_of_other_sizes_and_goes_on_within_it(tmp_path, before, after):
    write(tmp_path, "source", 120)
    source, options = TokenShards(tmp_path / "source"), {"pack_tokens": 256, "packs_per_step": 6, "seed": 0}
    ramp = [(2, 2), (3, 4)]
    alone = iter(Loader([source], **{**options, "packs_per_step": 1}))
    wanted = [[digest(next(alone)[0]) for _ in range(count)] for count in (2, 2, 4, 6, 6)]

    def step(loaders: list) -> list[str]:
        return [digest(batch) for group in zip(*map(next, loaders), strict=True) for batch in group]

    def loaders(size: int, state: dict | None = None) -> list[Loader]:
        return [Loader([source], **options, ramp=ramp, rank=rank, world_size=size, state=state) for rank in range(size)]

    first = loaders(before)
    running = [iter(loader) for loader in first]
    found = [step(running) for _ in range(2)]
    resumed = [iter(loader) for loader in loaders(after, first[0].state_dict())]
    found += [step(resumed) for _ in range(3)]
    assert found == wanted
    with pytest.raises(DataError, match="ramp"):
        Loader([source], **options, state=first[0].state_dict())
    with pytest.raises(ConfigError, match="packs_per_step is 3, expected a multiple of the 2 ranks"):
        Loader([source], **options, ramp=[(2, 3)], world_size=2)
