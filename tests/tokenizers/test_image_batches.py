"""Batches of pictures and captions as functions of the step, and the ids of captions."""

import unicodedata

import numpy as np
import pytest
import torch
from examples_in_memory import image_batches
from PIL import Image

from mmpt.errors import DataError
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.text_encoders.words import Words
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

from .tiny_image import Plan, config, loss_of, pictures


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
