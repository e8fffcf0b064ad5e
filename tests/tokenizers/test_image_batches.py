"""Batches of pictures and captions as functions of the step, and the ids of captions."""

import io
import unicodedata

import numpy as np
import pytest
import torch
from examples_in_memory import image_batches
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.tokenizers.image.augment import part
from mmpt.tokenizers.image.augment_config import CropConfig
from mmpt.tokenizers.image.batches import ImageExample, prepared
from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.pixels import picture_bytes
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.text_encoders.words import Words
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

from .tiny_image import Plan, config, loss_of, pictures, tokenizer


def test_batches_are_a_function_of_the_step_and_every_epoch_shows_every_picture():
    examples = [ImageExample(Image.new("RGB", (16, 16), (i * 10, 0, 0)), f"number {i}") for i in range(9)]
    one, other = (image_batches(examples, config(), Plan()) for _ in range(2))
    for step in (5, 0, 5, 2):
        assert all(torch.equal(a, b) for a, b in zip(one(step), other(step), strict=True))
    for epoch in range(2):  # 9 pictures, 3 batches of 6 are two epochs
        seen = torch.cat([one(step).pixels[:, 0, 0, 0] for step in range(3)])[epoch * 9 : epoch * 9 + 9]
        assert len(seen.unique()) == 9
    with pytest.raises(DataError, match="no pictures"):
        image_batches([], config(), Plan())


def test_a_mirrored_picture_appears_only_where_it_is_allowed():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 16, dtype=np.uint8)[None, :, None], (16, 1, 3)))

    def directions(flip: bool) -> set[bool]:
        batches = image_batches([ImageExample(ramp, "ramp")], config(augment={"flip": flip, "shift": 2}), Plan())
        return {bool(row[0, 0, 0] > row[0, 0, -1]) for step in range(4) for row in batches(step).pixels}

    assert directions(False) == {False} and directions(True) == {False, True}


def test_shifted_pictures_repeat_their_border_and_stay_within_reach():
    picture = Image.new("RGB", (16, 16), "black")
    picture.putpixel((8, 8), (255, 255, 255))
    batches = image_batches([ImageExample(picture, "dot")], config(augment={"shift": 3}), Plan())
    places = {tuple((row[0] > 0).nonzero()[0].tolist()) for step in range(60) for row in batches(step).pixels}
    assert len(places) == 49 and all(5 <= value <= 11 for place in places for value in place)


@pytest.mark.parametrize("size", [(300, 200), (60, 61)])
def test_random_parts_are_those_that_torchvision_draws(size):
    """Over many draws the shares of the area, the shapes and the places are those of `RandomResizedCrop`."""
    random = np.random.default_rng(0)
    ours = np.array([part(*size, CropConfig(least=0.5, ratio=4 / 3), random) for _ in range(4000)])
    torch.manual_seed(0)
    blank = torch.zeros(1, size[1], size[0])
    drawn = [RandomResizedCrop.get_params(blank, [0.5, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(left, top, left + wide, top + high) for top, left, high, wide in drawn])
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] <= size).all()
    for values in (lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]), lambda b: b[:, 0], lambda b: b[:, 3]):
        assert np.quantile(values(ours), [0.1, 0.5, 0.9]) == pytest.approx(
            np.quantile(values(theirs), [0.1, 0.5, 0.9]), rel=0.06, abs=2
        )


def test_parts_are_cut_of_pictures_as_they_are_and_kept_no_larger_than_they_need():
    ramp = np.broadcast_to(np.linspace(0, 255, 400, dtype=np.uint8)[None, :, None], (100, 400, 3))
    example = ImageExample(Image.fromarray(ramp), "a ramp")
    cropped = config(augment={"crop": {"least": 0.25, "ratio": 2}, "color": 0.2, "flip": True})
    stored = prepared(example, cropped).pixels
    assert stored.shape[1] == 4 * stored.shape[0] and 900 <= stored.shape[0] * stored.shape[1] <= 1100  # (16 / 0.5)²
    one, other = (image_batches([example], cropped, Plan()) for _ in range(2))
    seen = one(0).pixels
    assert torch.equal(seen, other(0).pixels) and seen.shape == (6, 3, 16, 16) and not torch.equal(seen[0], seen[1])
    spread = (seen[:, 0, :, -1] - seen[:, 0, :, 0]).abs().mean(dim=1)  # a part of the ramp is less steep than the whole
    assert (spread < 1.5).sum() >= 3 and spread.min() > 0.2
    small = prepared(ImageExample(Image.new("RGB", (9, 400)), ""), cropped).pixels
    assert image_batches([ImageExample(Image.fromarray(small), "")], cropped, Plan())(0).pixels.shape == (6, 3, 16, 16)
    assert prepared(example, config()).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
def test_pictures_of_any_shape_become_squares_as_asked(aspect):
    """Red, green and blue thirds side by side: squashed all are there, of the middle only green, padded all between white."""
    thirds = np.zeros((40, 120, 3), dtype=np.uint8)
    for place in range(3):
        thirds[:, 40 * place : 40 * place + 40, place] = 255
    seen = picture_bytes(Image.fromarray(thirds), 24, aspect)
    assert seen.shape == (24, 24, 3)
    colors = {
        "squash": [(255, 0, 0), (0, 255, 0), (0, 0, 255)],
        "crop": [(0, 255, 0)] * 3,
        "pad": [(255, 0, 0), (0, 255, 0), (0, 0, 255)],
    }
    assert [tuple(seen[12, x].tolist()) for x in (2, 12, 21)] == colors[aspect]
    assert (tuple(seen[1, 12].tolist()) == (255, 255, 255)) == (aspect == "pad")


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
def test_a_picture_and_its_bytes_give_the_same_codes(aspect):
    """Transparent, of 16 bits, and turned by EXIF: as it is, or through PNG or JPEG bytes."""
    model, random = tokenizer(aspect=aspect), np.random.default_rng(0)
    glass = Image.fromarray(random.integers(0, 256, (30, 21, 4), dtype=np.uint8), "RGBA")
    deep = Image.fromarray(random.integers(0, 65536, (21, 30), dtype=np.uint16))
    turned = Image.fromarray(np.asarray(glass.resize((20, 40)).convert("RGB")))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif, quality=95)
    jpeg = buffer.getvalue()
    pairs = [(glass, png(glass)), (deep, png(deep)), (Image.open(io.BytesIO(jpeg)), jpeg)]
    assert decode_image(jpeg).size == (40, 20)
    for picture, data in pairs:
        assert np.array_equal(model.encode([picture]), model.encode([decode_image(data)]))
        assert np.array_equal(picture_bytes(picture, 24, aspect), picture_bytes(decode_image(data), 24, aspect))


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_caption_ids_are_words_whatever_their_case_and_marks():
    captions = CaptionConfig(words=4, buckets=1000)
    assert Words().ids("A red, RED cat sits here", captions) == Words().ids("a RED red cat", captions)
    assert Words().ids("", captions) == [] and 0 not in Words().ids("one two three", captions)
    batch = image_batches([ImageExample(p, "") for p in pictures(6)], config(), Plan())(0)
    assert (
        batch.captions.shape == (6, 1)
        and loss_of(JointStage(ImageTokenizer(config()), JointConfig()).loss(batch, 0.5)).isfinite()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我喜欢茶", 4),
        ("お茶をどうぞ", 6),
        ("ขอบคุณ", 5),
        ("नमस्ते दुनिया कैसे हो", 4),
        ("😀 a cat 🐱", 4),
        ("naïve café", 2),
        ("...!", 0),
    ],
)
def test_captions_of_all_scripts_have_words(text, words):
    found = Words().ids(text, CaptionConfig(words=20, buckets=4096))
    assert len(found) == words and len(set(found)) == len(found)
    assert found == Words().ids(unicodedata.normalize("NFD", text), CaptionConfig(words=20, buckets=4096))
