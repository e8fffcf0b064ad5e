"""Documents of drawn scenes: a picture, its caption spoken by espeak-ng, and the caption as text."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import soxr

from mmpt.config import Schema
from mmpt.data.sources import scenes
from mmpt.data.sources.espeak import speak
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import encode_flac, encode_png

SAMPLE_RATE = 16_000


class SpokenScenesConfig(Schema):
    """`count` scenes of one side of the split (a `held_out` share of all pictures is never trained on).

    The voice changes from scene to scene, taking turns through `voices` (espeak-ng's names).
    """

    kind: Literal["spoken_scenes"]
    split: Literal["train", "test"]
    count: int
    held_out: float = 0.1
    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")
    words_per_minute: int = 200
    seed: int = 0


def spoken_scenes(config: SpokenScenesConfig) -> Iterator[Document]:
    """One document for each scene: (image, speech, text)."""
    chosen = scenes.split_scenes(config.held_out, config.seed)[config.split == "test"]
    for index in range(config.count):
        scene = chosen[index % len(chosen)]
        caption = scene.caption()
        voice = config.voices[index % len(config.voices)]
        utterance = speak(caption, voice, config.words_per_minute)
        samples = soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE)
        seed = int(np.random.SeedSequence((config.seed, config.split == "test", index)).generate_state(1)[0])
        picture = scenes.draw(scene, seed)
        parts = (
            Image(encode_png(picture), "png", picture.width, picture.height, alt=caption),
            Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, caption, utterance.words),
            Text(caption),
        )
        yield Document(
            f"{config.split}-{index:06d}", "drawn scenes", parts, {"language": "en", "voice": voice, "license": "CC0-1.0"}
        )
