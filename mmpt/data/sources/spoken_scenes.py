"""Documents of drawn scenes: a picture, its caption spoken by espeak-ng, and the caption as text.

sources: [{kind: spoken_scenes, split: train, count: 1000}]
"""

from typing import Literal

import numpy as np
import pydantic
import soxr

from mmpt.data.lost import Documents
from mmpt.data.sources import scenes
from mmpt.data.sources.base import SourceSchema, Unit
from mmpt.data.sources.espeak import Speaker
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import encode_flac, encode_png

SAMPLE_RATE = 16_000
UNIT = 250
SCENE_BYTES = 60_000
"""About what a scene takes in a shard."""


class SpokenScenesConfig(SourceSchema):
    """`count` scenes of one side of the split (a `held_out` share of all pictures is never trained on).

    The voice changes from scene to scene, taking turns through `voices` (espeak-ng's names).
    """

    kind: Literal["spoken_scenes"] = "spoken_scenes"
    split: Literal["train", "test"]
    count: int = pydantic.Field(ge=1)
    held_out: float = 0.1
    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")
    words_per_minute: int = 200
    seed: int = 0


def units(config: SpokenScenesConfig) -> list[Unit]:
    """Runs of scenes: [first, one past the last]."""
    edges = [*range(0, config.count, UNIT), config.count]
    return [Unit([first, last], (last - first) * SCENE_BYTES) for first, last in zip(edges, edges[1:], strict=False)]


def read(config: SpokenScenesConfig, unit: Unit) -> Documents:
    """One document for each scene: (image, speech, text)."""
    chosen = scenes.split_scenes(config.held_out, config.seed)[config.split == "test"]
    with Speaker() as speaker:
        for index in range(*unit.what):
            yield _document(config, index, chosen[index % len(chosen)], speaker)


def _document(config: SpokenScenesConfig, index: int, scene: scenes.Scene, speaker: Speaker) -> Document:
    caption = scene.caption()
    voice = config.voices[index % len(config.voices)]
    utterance = speaker.speak(caption, voice, config.words_per_minute)
    samples = soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE)
    seed = int(np.random.SeedSequence((config.seed, config.split == "test", index)).generate_state(1)[0])
    picture = scenes.draw(scene, seed)
    parts = (
        Image(encode_png(picture), "png", picture.width, picture.height, alt=caption),
        Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, caption, utterance.words),
        Text(caption),
    )
    meta = {"language": "en", "voice": voice, "license": "CC0-1.0"}
    source = config.name or "drawn scenes"
    return Document(f"{source}/{config.split}-{index:06d}", source, parts, meta)
