"""Tables: is every text with its own picture where fields are long, and what a second process gives for one manifest.

    python datasets/benches/tables.py

CSV files whose fields reach past what Python's csv reads by default, with lines in them that look like rows, are read back and
compared with pyarrow's reading of the same files. The speed is that of one NeMo manifest of FLAC recordings, in turns with one
and two processes, the median of five pairs. Writes datasets/results/tables.json.
"""

import csv
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.csv
from PIL import Image as Picture

from mmpt.data.build import BuildConfig, build, documents, units
from mmpt.data.engine.run import RunConfig, plan_tasks
from mmpt.data.lost import Lost
from mmpt.media import encode_flac, encode_png
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

FILES, ROWS, RECORDINGS, PAIRS = 8, 20, 1600, 5
RESULT = Path(__file__).resolve().parents[1] / "results" / "tables.json"


@main_guard
def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        figures = [*long_fields(Path(temporary) / "csv"), *manifest(Path(temporary) / "nemo")]
    sys.exit(0 if report(figures, RESULT, ("pyarrow",)) else 1)


def long_fields(folder: Path) -> list[Figure]:
    """Each picture is of one colour, which is the number of its row."""
    folder.mkdir()
    draw = random.Random(0)
    for number in range(ROWS):
        pixels = np.full((2, 2, 3), number, dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(encode_png(Picture.fromarray(pixels)))
    mispaired = unlisted = longest = 0
    for number in range(FILES):
        path = folder / f"{number}.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "text"])
            for row in range(ROWS):
                lines = [f'{draw.randrange(ROWS)}.png,"{draw.random()}"' for _ in range(draw.choice([1, 5, 10_000, 40_000]))]
                writer.writerow([f"{row}.png", "\n".join(lines)])
        whole = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(block_size=1 << 28), parse_options=whole).to_pylist()
        longest = max(longest, *(len(row["text"]) for row in table))
        expected = {(folder / row["image"]).read_bytes(): row["text"] for row in table}
        source = {"kind": "image_text_table", "table": str(path), "images": str(folder)}
        found = list(documents(BuildConfig.model_validate({"sources": [source]})))
        kept = {one.parts[0].data: one.parts[1].text for one in found if not isinstance(one, Lost)}
        mispaired += sum(expected[data] != text for data, text in kept.items())
        unlisted += max(0, len(expected) - len(kept) - sum(isinstance(one, Lost) for one in found))
    return [
        Figure("rows with long fields", FILES * ROWS),
        Figure("characters of the longest field", longest, 131_073),
        Figure("mispaired rows", mispaired, 0, at_most=True),
        Figure("missing rows not listed", unlisted, 0, at_most=True),
    ]


def manifest(folder: Path) -> list[Figure]:
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.05, 10 * 16_000).astype(np.float32)
    sound = encode_flac(noise, 16_000)
    (folder / "0.flac").write_bytes(sound)
    for number in range(1, RECORDINGS):
        os.link(folder / "0.flac", folder / f"{number}.flac")
    rows = [{"audio_filepath": f"{number}.flac", "text": f"utterance {number}"} for number in range(RECORDINGS)]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = BuildConfig.model_validate({"sources": [{"kind": "nemo", "manifest": str(folder / "m.jsonl")}]})
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(PAIRS):
        for processes, found in seconds.items():
            began = time.perf_counter()
            build(config, folder / "out", RunConfig(processes=processes))
            found.append(time.perf_counter() - began)
            shutil.rmtree(folder / "out")
    gains = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return [
        Figure("recordings in one manifest", RECORDINGS),
        Figure("tasks of it", len(plan_tasks(units(config), RunConfig().max_bytes)), 16),
        Figure("recordings/s, one process", RECORDINGS / statistics.median(seconds[1])),
        Figure("gain from 1 to 2 processes", statistics.median(gains), 1.5),
    ]


if __name__ == "__main__":
    main()
