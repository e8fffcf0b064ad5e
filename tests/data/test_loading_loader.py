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
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.data.loading.loader import Loader
from mmpt.data.loading.packing import PackedBatch
from mmpt.data.loading.plan import split_parts
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium, TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import ConfigError, DataError, VocabularyError
from mmpt.vocabulary import MODALITIES, Vocabulary

VOCABULARY = Vocabulary(300, "test", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
SETTINGS = {"pack_tokens": 256, "packs_per_step": 12, "seed": 3}


def write(folder: Path, name: str, count: int, low: int = 20, high: int = 80, vocabulary: Vocabulary = VOCABULARY) -> TokenShards:
    generator = np.random.default_rng(count)
    with TokenShardWriter(folder / name, vocabulary=vocabulary, built={}, max_documents=100) as writer:
        for number in range(count):
            length = int(generator.integers(low, high + 1))
            weights = generator.integers(0, 2, length).astype(np.float32) if number % 2 else None
            ids = generator.choice(np.setdiff1d(np.arange(vocabulary.size), vocabulary.special("<|feature|>")), length)
            writer.write(TokenDocument(f"{name}-{number}", name, ids, weights))
    return TokenShards(folder / name)


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


def test_long_documents_are_split_and_pictures_and_utterances_stay_whole(tmp_path):
    def block(kind: str, count: int) -> list[int]:
        first = {"image": VOCABULARY.image_offset, "speech": VOCABULARY.speech_offset}[kind]
        codes = [first + n for n in range(count)]
        return [VOCABULARY.special(f"<|{kind}|>"), *codes, VOCABULARY.special(f"<|/{kind}|>")]

    begin, end = VOCABULARY.special("<|begin|>"), VOCABULARY.special("<|end|>")
    parts = [[begin, *range(10)], block("image", 16), list(range(30, 40)), block("speech", 50), [*range(5), end]]
    ids = [token for part in parts for token in part]
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(TokenDocument("long", "test", np.array(ids), np.arange(len(ids), dtype=np.float32)))
        writer.write(TokenDocument("short", "test", np.array([begin, 1, end])))
    source = TokenShards(tmp_path / "set")
    assert source.index(0).part_lengths.tolist() == [11, 18, 10, 52, 6, 3]
    assert [MODALITIES[kind] for kind in source.index(0).part_kinds] == ["text", "image", "text", "speech", "text", "text"]

    def pieces(pack_tokens: int, **changes) -> tuple[list, int]:
        loader = Loader([source], pack_tokens=pack_tokens, packs_per_step=1, seed=0, epochs=1, **changes)
        dropped = loader.describe()["dropped_documents"]
        found = []
        for (batch,) in loader:
            edges = batch.cu_seqlens.tolist()
            spans = zip(batch.document_ids, edges, edges[1:], strict=False)
            found += [(name, batch.input_ids[0, a:b].tolist()) for name, a, b in spans]
        return sorted(found), dropped

    short = ("short", [begin, 1, end])
    assert pieces(60, long_documents="drop") == ([short], 1)
    # The second piece begins with the last token of the first, so that its own first token is predicted too.
    assert pieces(60) == ([("long#0", ids[:39]), ("long#38", ids[38:]), short], 0)
    # An utterance that fits nowhere is dropped and counted; what is before and after it stays whole.
    assert pieces(40) == ([("long#0", ids[:39]), ("long#91", ids[91:]), short], 1)
    # Text is cut at any token: 11 + 18 + 1, then the other 9 behind the one before them.
    assert pieces(30)[0] == [("long#0", ids[:30]), ("long#29", ids[29:39]), ("long#91", ids[91:]), short]
    assert pieces(100)[0][0] == ("long", ids)


parts_of_documents = st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8)


@given(parts_of_documents, st.integers(2, 25))
def test_each_token_is_predicted_once_but_those_of_media_that_fit_nowhere(parts, budget):
    sizes, text = [size for size, _ in parts], [cuttable for _, cuttable in parts]
    spans = split_parts(sizes, text, budget)
    owner = [place for place, size in enumerate(sizes) for _ in range(size)]
    too_long = {place for place, size in enumerate(sizes) if size > budget and not text[place]}
    predicted = [token for start, end in spans for token in range(start + 1, end)]
    entering = [token for token in range(len(owner)) if owner[token] not in too_long]
    # Nothing comes before the first token of the document, nor before that behind what was left out.
    first = [token for token in entering if token == 0 or owner[token - 1] in too_long]
    whole = {start for start, _ in spans}  # a picture as large as a pack leaves no room for the token before it
    assert all(end - start <= budget for start, end in spans)
    assert len(predicted) == len(set(predicted)) and not set(predicted) & set(first)
    missing = set(entering) - set(predicted) - set(first)
    assert all(token in whole and sizes[owner[token]] == budget and not text[owner[token]] for token in missing)
    assert {token for start, end in spans for token in range(start, end)} == set(entering)
    for place, size in enumerate(sizes):
        if not text[place] and place not in too_long:
            start = sum(sizes[:place])
            assert any(a <= start and start + size <= b for a, b in spans)


def test_what_is_left_out_is_counted_once_and_what_enters_is_counted_too(tmp_path):
    """An utterance of 52 tokens fits no pack of 40; a stretch of four pictures is more than a pack may hold."""
    speech = VOCABULARY.encode_speech(np.zeros(50, int))
    picture = VOCABULARY.encode_image(np.zeros(16, int))
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(TokenDocument("sound", "test", np.array([*range(10), *speech, *range(90)])))
    options = {"packs_per_step": 1, "seed": 0, "epochs": 1}
    loader = Loader([TokenShards(tmp_path / "set")], pack_tokens=40, **options)
    figures = loader.describe()
    pieces = [len(batch.document_ids) for step in loader for batch in step]
    assert (figures["documents"], figures["dropped_documents"]) == (sum(pieces), 1) == (4, 1)  # 10; 40, 39 + 1, 11 + 1
    assert figures["tokens_left_out"] == 52 and figures["tokens"] == 100 + 2
    with TokenShardWriter(tmp_path / "pictures", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(TokenDocument("album", "test", np.array([*range(100), *(picture * 4), *range(100)])))
    figures = Loader([TokenShards(tmp_path / "pictures")], pack_tokens=100, max_images=3, **options).describe()
    # 100 of text; the last of them, 72 of pictures and 27 of text, which do not enter; the last of these and 73.
    assert (figures["documents"], figures["tokens_left_out"]) == (2, 72 + 26)


def test_of_long_texts_every_token_is_trained_on(tmp_path):
    """20 of 500 and 20 of 20,000 tokens: all of them are targets, but the first of each document."""
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        for number in range(40):
            length = 500 if number % 2 else 20_000
            writer.write(TokenDocument(str(number), "test", (np.arange(length) * 7 + number) % VOCABULARY.text_size))
    loader = Loader([TokenShards(tmp_path / "set")], pack_tokens=8192, packs_per_step=1, seed=0, epochs=1)
    targets = sum(int((batch.targets >= 0).sum()) for step in loader for batch in step)
    assert targets == 20 * 499 + 20 * 19_999
    assert loader.describe()["tokens_left_out"] == 0


@pytest.mark.parametrize("features", [False, True])
def test_a_pack_holds_at_most_so_many_pictures_be_they_codes_or_features(tmp_path, features):
    ids, media = [], []
    for place in range(5):
        if features:
            media.append(Medium("image", "png", b"x", len(ids) + 1, 2))
            ids += VOCABULARY.encode_features("image", 2)
        else:
            ids += VOCABULARY.encode_image(np.arange(VOCABULARY.codes_per_image))
        ids.append(place)
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        for number in range(12):
            writer.write(TokenDocument(str(number), "test", np.array(ids), None, tuple(media)))
    loader = Loader([TokenShards(tmp_path / "set")], pack_tokens=4096, packs_per_step=1, seed=0, epochs=1, max_images=10)
    opening = VOCABULARY.special("<|image|>")
    assert [int((batch.input_ids == opening).sum()) for step in loader for batch in step] == [10] * 6


def test_a_pack_holds_no_more_pictures_than_allowed(tmp_path):
    draw = np.random.default_rng(0)
    begin, end = VOCABULARY.special("<|begin|>"), VOCABULARY.special("<|end|>")
    picture = [VOCABULARY.special("<|image|>"), *[VOCABULARY.image_offset] * 16, VOCABULARY.special("<|/image|>")]
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        for number in range(200):
            ids = [begin, *picture * int(draw.integers(0, 4)), *range(int(draw.integers(1, 30))), end]
            writer.write(TokenDocument(f"{number}", "test", np.array(ids)))
    source = TokenShards(tmp_path / "set")
    for limit in (3, 5):
        loader = Loader([source], pack_tokens=512, packs_per_step=1, seed=0, epochs=1, max_images=limit)
        counts, names = [], []
        for (batch,) in loader:
            counts.append(int((batch.input_ids == VOCABULARY.special("<|image|>")).sum()))
            names += batch.document_ids
        assert max(counts) == limit and len(set(names)) == 200
    with pytest.raises(DataError, match="no document fits"):
        only = Loader([source], pack_tokens=1, packs_per_step=1, seed=0, max_images=1, long_documents="drop")
        next(iter(only))


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


@pytest.mark.parametrize(("pack_tokens", "long"), [(200, "drop"), (14, "split")])
def test_media_come_with_their_slots_also_where_a_document_is_split(tmp_path, pack_tokens, long):
    """Each medium's input is its number: wherever it lands, its slots are where the row says."""
    vocabulary = Vocabulary(20, "letters", image_codes=4, codes_per_image=2, speech_codes=4, speech_rate=25.0)
    slot, kinds = vocabulary.special("<|feature|>"), ("image", "speech")
    with TokenShardWriter(tmp_path / "set", vocabulary=vocabulary, built={}) as writer:
        for number in range(12):
            ids, media = [vocabulary.special("<|begin|>")], []
            for place in range(number % 4):
                kind = kinds[(number + place) % 2]
                ids.append(3 + place)
                media.append(Medium(kind, "bin", bytes([10 * number + place + 1]), len(ids) + 1, 3))
                ids += vocabulary.encode_features(kind, 3)
            ids += [7, vocabulary.special("<|end|>")]
            writer.write(TokenDocument(str(number), "test", np.array(ids), None, tuple(media)))

    def read(medium: Medium) -> torch.Tensor:
        if medium.data == b"\x15":  # the first of document 2
            raise DataError("a medium that is damaged")
        return torch.tensor([float(medium.data[0])])

    options = {"pack_tokens": pack_tokens, "packs_per_step": 1, "seed": 0, "epochs": 1, "long_documents": long, "max_lost": 0.5}
    loader = Loader([TokenShards(tmp_path / "set")], **options, read_medium=read)
    seen = []
    for (batch,) in loader:
        placed = torch.zeros(batch.input_ids.shape[1], dtype=torch.bool)
        for kind, (places, inputs) in batch.features.items():
            assert len(places) == 3 * len(inputs)
            for own, value in zip(places.view(-1, 3).tolist(), inputs[:, 0].tolist(), strict=True):
                assert own == list(range(own[0], own[0] + 3))
                assert batch.input_ids[0, own[0] - 1] == vocabulary.special(f"<|{kind}|>")
                if long == "drop":  # a piece may begin with the block; else the token before it names its place
                    assert batch.input_ids[0, own[0] - 2] == 3 + (int(value) - 1) % 10
                placed[own] = True
                seen.append(int(value))
        assert torch.equal(placed, batch.input_ids[0] == slot)
    everything = [10 * number + place + 1 for number in range(12) for place in range(number % 4)]
    assert len(seen) == len(set(seen)) and set(everything) - {21, 22} <= set(seen) <= set(everything) - {21}
    assert long == "split" or 22 not in seen
    assert len(loader.lost) == 1 and "a medium that is damaged" in loader.lost[0].reason
