"""Pictures as tiles: the grid by hand, the order of tiles and tags, and the slots that a document has for them."""

import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from chats import text_tokenizer

from mmpt.config import parse_config
from mmpt.data.curate.steps.to_tokens import FeatureRows
from mmpt.data.feature_rows import PictureRows, SpeechRows, rows_of
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import from_members, to_members
from mmpt.data.shards.write import TokenShardWriter
from mmpt.data.tiles import Grid, Tiles
from mmpt.data.token_documents import token_documents
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError, DataError, VocabularyError
from mmpt.media import encode_png, encode_wav
from mmpt.tokenizers.text import encode_text
from mmpt.vocabulary import MODALITIES, Vocabulary

TEXT = text_tokenizer()
VOCABULARY = Vocabulary(len(TEXT), "f" * 64, image_codes=0, codes_per_image=0, speech_codes=0, speech_rate=1.0)
TOKENIZER = SimpleNamespace(
    vocabulary=VOCABULARY, text=TEXT, image=None, speech=None, chat=None,
    encode=lambda sequences: [[encode_text(TEXT, part.text) for part in sequence] for sequence in sequences],
)  # fmt: skip
SLOT = VOCABULARY.special("<|feature|>")


def picture(width: int, height: int) -> Image:
    return Image(encode_png(PIL.Image.new("RGB", (width, height), "red")), "png", width, height)


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((448, 448), 6, (1, 1)),  # 448² is half of 2 × 448² at most, so the square of four stays empty
        ((700, 700), 6, (2, 2)),  # 490,000 pixels are more than half of 4 × 448²
        ((900, 300), 6, (3, 1)),
        ((300, 900), 6, (1, 3)),
        ((1200, 800), 6, (3, 2)),
        ((800, 1200), 6, (2, 3)),
        ((640, 480), 6, (3, 2)),  # 1.333 is 0.167 from 3:2 and 0.333 from 1:1
        ((640, 480), 12, (4, 3)),
        ((3000, 100), 6, (6, 1)),
        ((900, 300), 1, (1, 1)),
        ((800, 400), 8, (2, 1)),  # 2:1 and 4:2 are one aspect: 320,000 pixels are less than half of 8 × 448²
        ((1600, 800), 8, (4, 2)),
    ],
)
def test_the_grid_of_nearest_aspect(size, most, expected):
    assert Tiles(max=most).grid(*size, 448) == expected


def test_tiles_are_cut_row_by_row_and_the_whole_comes_last():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[90, 0, 0], [0, 90, 0], [0, 0, 90]]], dtype=np.uint8)
    whole = PIL.Image.fromarray(colours.repeat(40, axis=0).repeat(40, axis=1))
    found = Tiles().cut(whole, 16)
    assert len(found) == 7 and all(one.size == (16, 16) for one in found[:6])
    assert [one.getpixel((8, 8)) for one in found[:6]] == [tuple(colour) for row in colours.tolist() for colour in row]
    assert found[6].size == whole.size
    assert len(Tiles(thumbnail=False).cut(whole, 16)) == 6
    small = PIL.Image.new("RGB", (9, 9))
    assert Tiles().cut(small, 16) == [small]


def test_tags_by_number_and_by_place():
    assert Tiles(tags="numbers").names(Grid(2, 1)) == ["<tile_1>", "<tile_2>", "<tile_global_thumbnail>"]
    assert Tiles(tags="places", thumbnail=False).names(Grid(2, 2)) == [
        "<tile_x0_y0>", "<tile_x1_y0>", "<tile_x0_y1>", "<tile_x1_y1>",
    ]  # fmt: skip
    assert Tiles(tags="places").names(Grid(1, 1)) == ["<tile_global_thumbnail>"]
    assert Tiles().names(Grid(3, 2)) == [""] * 7 and Tiles().names(Grid(1, 1)) == [""]


def tokens(rows: PictureRows | SpeechRows, *parts):
    kind = "image" if isinstance(rows, PictureRows) else "speech"
    (found,) = token_documents([Document("d", "s", parts)], TOKENIZER, (), {kind: rows})
    return found


def test_each_tag_stands_before_its_rows_and_the_document_survives_its_shard(tmp_path):
    rows = PictureRows(rows=4, side=16, tiles=Tiles(tags="numbers"))
    found = tokens(rows, Text("look"), picture(60, 20), Text("yes"))
    names = ["<tile_1>", "<tile_2>", "<tile_3>", "<tile_global_thumbnail>"]
    tags = [encode_text(TEXT, name) for name in names]
    block = [token for tag in tags for token in (*tag, *[SLOT] * 4)]
    begin = [VOCABULARY.special("<|begin|>"), *encode_text(TEXT, "look")]
    ids = [*begin, VOCABULARY.special("<|image|>"), *block, VOCABULARY.special("<|/image|>"), *encode_text(TEXT, "yes")]
    assert found.ids.tolist() == [*ids, VOCABULARY.special("<|end|>")]
    assert all(tags) and not found.weights[len(begin) : len(begin) + len(block) + 2].any()
    (medium,) = found.media
    assert medium.slots == 16 and found.ids[medium.places()].tolist() == [SLOT] * 16
    assert np.array_equal(medium.places(), np.flatnonzero(found.ids == SLOT))
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(found)
    shards = TokenShards(tmp_path / "set")
    again = shards[0]
    assert again.media == found.media and np.array_equal(again.ids, found.ids)
    # One picture, with all its tags, is one part: packing never cuts inside.
    index = shards.index(0)
    assert index.part_kinds.tolist() == [MODALITIES.index(kind) for kind in ("text", "image", "text")]
    assert index.part_lengths[1] == len(block) + 2
    assert [name for name, _ in VOCABULARY.split(found.ids.tolist())] == ["text", "image features", "text"]


def test_a_picture_of_one_tile_without_tags_is_as_without_tiles():
    tiled = tokens(PictureRows(rows=4, side=16, tiles=Tiles()), picture(10, 10), Text("a"))
    plain = tokens(PictureRows(rows=4), picture(10, 10), Text("a"))
    assert np.array_equal(tiled.ids, plain.ids) and tiled.media == plain.media
    assert to_members(tiled, VOCABULARY)[0] == to_members(plain, VOCABULARY)[0]


def test_rows_of_a_sound_follow_its_length():
    assert [rows_of(samples, 480_000, 1500) for samples in (1, 320, 321, 16_000, 480_000, 999_999)] == [1, 1, 2, 50, 1500, 1500]
    sound = Speech(encode_wav(np.zeros(8_000, dtype=np.float32), 16_000), "wav", 16_000, 0.5)
    assert tokens(SpeechRows(rows=40, seconds=2.0), sound).media[0].slots == 10
    assert tokens(SpeechRows(rows=40), sound).media[0].slots == 40


def test_runs_that_do_not_fit_the_ids_are_no_medium():
    members, *_ = to_members(tokens(PictureRows(rows=4, side=16, tiles=Tiles(tags="numbers")), picture(40, 20)), VOCABULARY)
    for old, new in ((b'"slots":12', b'"slots":13'), (b'"runs":[[', b'"runs":[[1')):
        assert old in members["json"].replace(b" ", b"")
        broken = {**members, "json": members["json"].replace(b" ", b"").replace(old, new)}
        with pytest.raises(DataError, match=r"medium at 2: there is no block|medium at 2"):
            from_members(broken, VOCABULARY)


def test_text_inside_a_picture_without_slots_is_still_a_mistake():
    begin, image, end = (VOCABULARY.special(mark) for mark in ("<|begin|>", "<|image|>", "<|/image|>"))
    with pytest.raises(VocabularyError, match="position 2: a text id inside image"):
        VOCABULARY.split([begin, image, 5, end])


def test_rows_as_a_number_or_a_section_and_mistakes_in_it():
    found = parse_config({"image": 64, "speech": {"rows": 1500, "seconds": 30}}, FeatureRows, "test").by_kind()
    assert found == {"image": PictureRows(rows=64), "speech": SpeechRows(rows=1500, seconds=30)}
    with pytest.raises(ConfigError, match="side: missing; tiles have the side of the encoder"):
        parse_config({"image": {"rows": 4, "tiles": {"max": 4}}}, FeatureRows, "test")


def test_a_picture_that_cannot_be_decoded_is_told_while_tokens_are_made():
    with pytest.raises(DataError):
        tokens(PictureRows(rows=4, side=16, tiles=Tiles()), Image(io.BytesIO(b"x").getvalue(), "png", 1, 1))
