"""A picture in tiles: the same ids where tokens are made, where a model answers and where it serves, and a row in each slot."""

from dataclasses import replace

import PIL.Image
import pytest
import torch

from mmpt.config import parse_config
from mmpt.data.arrange import Arrangement
from mmpt.data.loading.packing import pack
from mmpt.data.token_documents import token_documents
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png
from mmpt.model.config import FeatureInputConfig
from mmpt.model.feature_inputs import FeatureInputs

from .asking import data_url, limits, post, user
from .live import serving

ENCODER = {"side": 32, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}}
PLAIN = {"encoder": ENCODER, "connector": {"kind": "resampler", "depth": 1, "heads": 2, "width": 16, "rows": 3}}
TILED = {**PLAIN, "tiles": {"max": 4, "tags": "numbers"}}


def opened(model, content) -> FeatureInputs:
    return FeatureInputs({"image": parse_config(content, FeatureInputConfig, "test")}, model.model, seed=5).eval()


def picture(width: int, height: int) -> Image:
    return Image(encode_png(PIL.Image.new("RGB", (width, height), "red")), "png", width, height)


def made(model, inputs, *parts):
    order = Arrangement(order=("image", "text"), weights=(0.0, 1.0))
    (found,) = token_documents([Document("d", "s", parts)], model.tokenizer, [order], inputs.counted)
    return found


def test_the_same_ids_in_tokens_in_answers_and_in_the_server(model):
    inputs = opened(model, TILED)
    tiled = replace(model, inputs=inputs)
    parts = (picture(80, 40), Text("the red"))
    document = made(model, inputs, *parts)
    (prompt,) = tiled.prompts([parts])
    assert prompt.ids == document.ids.tolist()[:-1]  # without its end
    (medium,) = document.media
    ((kind, places, pixels),) = prompt.media
    assert kind == "image" and places.tolist() == medium.places().tolist()
    assert len(pixels) == 3 and medium.slots == 9  # two tiles and the whole picture, three rows each
    with serving(tiled, limits()) as (address, _):
        shown = user({"type": "image_url", "image_url": {"url": data_url(80, 40)}}, {"type": "text", "text": "the red"})
        answer = post(address, messages=shown, temperature=0.0, max_tokens=8).json()
    assert answer["usage"]["prompt_tokens"] == len(prompt.ids)
    (own,) = tiled.answer([parts], text={"temperature": 0.0}, max_new_tokens=8)
    assert own.ids


def test_rows_of_tiles_stand_in_their_slots_in_order(model):
    """Each tile's rows are what the picture of that tile alone has."""
    inputs, plain = opened(model, TILED), opened(model, PLAIN)
    halves = PIL.Image.new("RGB", (64, 32), "red")
    halves.paste("blue", (32, 0, 64, 32))
    document = made(model, inputs, Image(encode_png(halves), "png", 64, 32), Text("a"))
    batch = pack([document], [[inputs.read(document.media[0])]])
    with torch.no_grad():
        entering, _ = inputs(batch.features, batch.cu_seqlens)
        singles = [halves.crop((0, 0, 32, 32)), halves.crop((32, 0, 64, 32)), halves]
        alone = []
        for one in singles:
            single = made(model, plain, Image(encode_png(one), "png", *one.size), Text("a"))
            own = pack([single], [[plain.read(single.media[0])]])
            alone.append(plain(own.features, own.cu_seqlens)[0].rows)
    assert entering.slots.tolist() == document.media[0].places().tolist()
    assert torch.allclose(entering.rows, torch.cat(alone), atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_one_tile_without_tags_gives_the_bits_of_no_tiles(model):
    untagged, plain = opened(model, {**PLAIN, "tiles": {}}), opened(model, PLAIN)
    document = made(model, plain, picture(30, 30), Text("a"))
    assert made(model, untagged, picture(30, 30), Text("a")).ids.tolist() == document.ids.tolist()
    rows = []
    for inputs in (untagged, plain):
        batch = pack([document], [[inputs.read(document.media[0])]])
        rows.append(inputs(batch.features, batch.cu_seqlens)[0].rows)
    assert torch.equal(*rows)


def test_shards_made_without_tiles_are_refused(model):
    document = made(model, opened(model, PLAIN), picture(80, 40), Text("a"))
    with pytest.raises(ConfigError, match="its connector gives 9 rows, the data were made with 3 slots"):
        opened(model, TILED).read(document.media[0])
