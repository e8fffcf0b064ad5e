"""Pictures with small print: a sheet of 192 x 128 pixels with six digits, 14 pixels high, two rows of three.

    python recipes/reproduce/small_print.py OUT

OUT/train and OUT/test are folders of pictures, each with a table of JSON lines: what a picture shows is its digits, row by row.
OUT/encoder is a vision transformer without weights, of which a study takes the random projection of patches.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from transformers import CLIPVisionConfig

from mmpt.media import encode_png
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

CELL, COLUMNS, ROWS = 64, 3, 2
ENCODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": CELL,
           "patch_size": 16}  # fmt: skip
HEIGHT = 14
"""Of the digits, in pixels; one view of 64 x 64 pixels leaves them a third of the width and half of the height."""
JITTER = 1
"""Pixels by which a digit lies off its place at most."""


def printed(digits: str, random: np.random.Generator) -> Image.Image:
    """The digits in black on white."""
    picture = Image.new("RGB", (CELL * COLUMNS, CELL * ROWS), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=HEIGHT)
    for place, digit in enumerate(digits):
        row, column = divmod(place, COLUMNS)
        x, y = random.integers(-JITTER, JITTER + 1, 2) + (column * CELL + CELL // 2 - 5, row * CELL + CELL // 2 - 5)
        draw.text((int(x), int(y)), digit, font=font, fill="black")
    return picture


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=300)
    arguments = parser.parse_args()
    CLIPVisionConfig(**ENCODER).save_pretrained(arguments.out / "encoder")
    for number, (name, count) in enumerate((("train", arguments.train), ("test", arguments.test))):
        rows = []
        for place in range(count):
            random = np.random.default_rng((number, place))
            digits = "".join(map(str, random.integers(0, 10, COLUMNS * ROWS)))
            (arguments.out / name).mkdir(parents=True, exist_ok=True)
            write_bytes(arguments.out / name / f"{place:06d}.png", encode_png(printed(digits, random)))
            rows.append({"image": f"{place:06d}.png", "caption": " ".join(digits)})
        write_bytes(arguments.out / f"{name}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())


if __name__ == "__main__":
    main()
