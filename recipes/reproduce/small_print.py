"""Pictures with small print: a large surface with blots, and somewhere on it a number in small digits.

    python recipes/reproduce/small_print.py OUT

OUT/train and OUT/test are folders of pictures, each with a table of JSON lines: what it shows is the number, each digit a word.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmpt.media import encode_png
from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

SIDE = 192
HEIGHT = 14
"""Of the digits, in pixels: a view of 64 pixels leaves them a third of it."""
BLOTS = 12


def printed(digits: str, random: np.random.Generator) -> Image.Image:
    """The digits in dark print at a random place."""
    paper = tuple(random.integers(170, 250, 3).tolist())
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(BLOTS):
        x, y, wide, high = random.integers((0, 0, 6, 6), (SIDE, SIDE, 40, 40)).tolist()
        draw.ellipse((x, y, x + wide, y + high), fill=tuple(random.integers(140, 255, 3).tolist()))
    font = ImageFont.load_default(size=HEIGHT)
    _, _, wide, high = (round(edge) for edge in draw.textbbox((0, 0), digits, font=font))
    x, y = random.integers((2, 2), (SIDE - wide - 2, SIDE - high - 2)).tolist()
    draw.text((x, y), digits, font=font, fill=tuple(random.integers(0, 60, 3).tolist()))
    return picture


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--digits", type=int, default=2)
    arguments = parser.parse_args()
    for number, (name, count) in enumerate((("train", arguments.train), ("test", arguments.test))):
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
        rows = []
        for place in range(count):
            random = np.random.default_rng((number, place))
            digits = "".join(map(str, random.integers(0, 10, arguments.digits)))
            write_bytes(arguments.out / name / f"{place:06d}.png", encode_png(printed(digits, random)))
            rows.append({"image": f"{place:06d}.png", "caption": " ".join(digits)})
        write_bytes(arguments.out / f"{name}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())


if __name__ == "__main__":
    main()
