"""Sentences for a model that says again what it hears (datasets/specs/spoken_repeats.yaml): captions of the quickstart's scenes.

    python recipes/spoken_repeats.py data/said

Writes OUT/train.jsonl and OUT/test.jsonl, rows {said: sentence}; those of the test are of scenes that the quickstart holds out.
"""

import json
from pathlib import Path

import numpy as np

from mmpt.data.synthetic.scenes import split_scenes
from mmpt.scripts import main_guard, script_parser
from mmpt.storage import write_bytes

HELD_OUT = 0.1
"""The share of scenes that the quickstart holds out, with its seed 0."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--train", type=int, default=1000, help="rows to learn from")
    parser.add_argument("--test", type=int, default=64, help="rows of the test")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for side, scenes, count in zip(("train", "test"), split_scenes(HELD_OUT, 0), (arguments.train, arguments.test), strict=True):
        chosen = random.choice(len(scenes), count, replace=False)
        rows = [json.dumps({"said": scenes[number].caption()}) + "\n" for number in chosen]
        write_bytes(arguments.out / f"{side}.jsonl", "".join(rows).encode())


if __name__ == "__main__":
    main()
