"""Drawn scenes before the clutter of real pictures, with captions that say nothing of the clutter, as COCO lays captions out.

    python recipes/reproduce/pictures.py OUT --clutter ../shared/data/garments/sprite.png

A photograph holds more than its caption says. So here: behind the shapes lies a piece of a real picture, the light changes, and
the sensor has noise. OUT/train and OUT/test are folders of pictures, each with a JSON file of COCO's form and, for building
shards, a table of JSON lines.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmpt.data.synthetic import scenes
from mmpt.errors import ConfigError
from mmpt.media import encode_png
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

HELD_OUT = 0.1
SIZES = (24, 60)
"""Sides of the pieces that are cut out of the clutter, in pixels."""


def cluttered(scene: scenes.Scene, seed: int, clutter: np.ndarray) -> Image.Image:
    """The scene with a piece of `clutter` behind it (half of what is seen there), in some light, with some noise."""
    random = np.random.default_rng(seed)
    drawn = np.asarray(scenes.draw(scene, seed), dtype=np.float32)
    back = np.array(scenes.BACKGROUNDS[scene.background], dtype=np.float32)
    shape = (np.linalg.norm(drawn - back, axis=-1, keepdims=True) / 60).clip(0, 1)
    side = int(random.integers(*SIZES))
    top, left = (int(random.integers(length - side)) for length in clutter.shape)
    piece = Image.fromarray(clutter[top : top + side, left : left + side]).resize((scenes.SIDE, scenes.SIDE))
    texture = np.asarray(piece, dtype=np.float32)[:, :, None]
    seen = shape * drawn + (1 - shape) * (0.5 * back + 0.5 * texture)
    seen = seen * random.uniform(0.75, 1.15) + random.normal(0, 8, seen.shape)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clutter", type=Path, required=True, help="a picture of which pieces are taken")
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=200)
    arguments = parser.parse_args()
    if not arguments.clutter.is_file():
        raise ConfigError(f"{arguments.clutter}: no such picture")
    clutter = np.asarray(Image.open(arguments.clutter).convert("L"))
    sides = scenes.split_scenes(HELD_OUT, 0)
    for number, (name, count) in enumerate((("train", arguments.train), ("test", arguments.test))):
        write_set(arguments.out, name, sides[number], count, clutter)


def write_set(out: Path, name: str, chosen: Sequence[scenes.Scene], count: int, clutter: np.ndarray) -> None:
    (out / name).mkdir(parents=True, exist_ok=True)
    images, annotations, rows = [], [], []
    for number in range(count):
        scene = chosen[number % len(chosen)]
        seed = int(np.random.SeedSequence((name == "test", number)).generate_state(1)[0])
        file = f"{number:06d}.png"
        write_bytes(out / name / file, encode_png(cluttered(scene, seed, clutter)))
        images.append({"id": number, "file_name": file})
        annotations.append({"image_id": number, "caption": scene.caption()})
        rows.append({"image": file, "caption": scene.caption()})
    write_bytes(out / f"{name}.json", json.dumps({"images": images, "annotations": annotations}).encode())
    write_bytes(out / f"{name}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())


if __name__ == "__main__":
    main()
