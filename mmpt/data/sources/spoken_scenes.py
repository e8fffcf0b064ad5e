"""Documents of drawn scenes: a picture, its caption spoken by espeak-ng, and the caption as text.

sources: [{kind: spoken_scenes, split: train, count: 1000}]
"""

from typing import Any, Literal

import numpy as np
import pydantic

from mmpt.data.lost import Documents
from mmpt.data.sources import NamedSource
from mmpt.data.synthetic import scenes
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.data.unit import Unit
from mmpt.document import Document, Image, Text
from mmpt.media import encode_png

UNIT = 250
"""Scenes of a unit."""
SCENE_BYTES = 60_000
"""About what a scene takes in a shard."""


class SpokenScenes(NamedSource):
    """Drawn scenes with spoken captions: own, since picture, caption and speech of each determine the others exactly.

    The voice changes from scene to scene, taking turns through `voices`.
    """

    split: Literal["train", "test"]
    """Which side of the split."""
    count: int = pydantic.Field(ge=1)
    """How many scenes; beyond all of its side they come again, drawn and spoken anew."""
    held_out: float = 0.1
    """Share of all scenes that are on the test side and never trained on."""
    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")
    """espeak-ng's names of the voices."""
    words_per_minute: int = 200
    """How fast they speak."""
    boxes: bool = False
    """Whether meta["boxes"] says where each shape is."""
    seed: int = 0
    """What the split and the pictures are drawn with."""

    def units(self) -> list[Unit[tuple[int, int]]]:
        """Runs of scenes: (first, one past the last)."""
        edges = [*range(0, self.count, UNIT), self.count]
        return [Unit((first, last), (last - first) * SCENE_BYTES) for first, last in zip(edges, edges[1:], strict=False)]

    def read(self, unit: Unit[tuple[int, int]]) -> Documents:
        """One document for each scene: (image, speech, text)."""
        chosen = scenes.split_scenes(self.held_out, self.seed)[self.split == "test"]
        with Speaker() as speaker:
            for index in range(*unit.what):
                yield _document(self, index, chosen[index % len(chosen)], speaker)


def _document(config: SpokenScenes, index: int, scene: scenes.Scene, speaker: Speaker) -> Document:
    caption = scene.caption()
    voice = config.voices[index % len(config.voices)]
    seed = int(np.random.SeedSequence((config.seed, config.split == "test", index)).generate_state(1)[0])
    picture = scenes.draw(scene, seed)
    parts = (
        Image(encode_png(picture), "png", picture.width, picture.height, alt=caption),
        read_aloud(speaker, caption, voice, config.words_per_minute),
        Text(caption),
    )
    meta: dict[str, Any] = {"language": "en", "voice": voice, "license": "CC0-1.0"}
    if config.boxes:
        meta["boxes"] = [{"part": 0, "box": list(box), "text": text} for text, box in scenes.boxes(scene, seed)]
    source = config.name or "drawn scenes"
    return Document(f"{source}/{config.split}-{index:06d}", source, parts, meta)
