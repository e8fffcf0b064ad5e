"""Long documents in pieces, and media that stay whole in them; how many pictures a pack holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmpt.data.loading.loader import Loader
from mmpt.data.loading.plan import split_parts
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium, TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import DataError
from mmpt.vocabulary import MODALITIES, Vocabulary

from .token_sets import VOCABULARY


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
        return torch.tensor([[float(medium.data[0])]])

    options = {"pack_tokens": pack_tokens, "packs_per_step": 1, "seed": 0, "epochs": 1, "long_documents": long, "max_lost": 0.5}
    loader = Loader([TokenShards(tmp_path / "set")], **options, read_medium=read)
    seen = []
    for (batch,) in loader:
        placed = torch.zeros(batch.input_ids.shape[1], dtype=torch.bool)
        for kind, (places, inputs, slots) in batch.features.items():
            assert slots == (3,) * len(inputs)
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
