"""A set of a million documents looked at: seconds and memory of a page, wherever it begins, and of the card that counts them.

    python datasets/benches/viewing.py [DOCUMENTS]

Beside each figure of the large set stands that of one of a hundredth of its documents. Memory is what the process of a tool and
those that it starts hold at once, asked for twenty times a second. Writes datasets/results/viewing.json.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image as Picture

from mmpt.data.lost import LOST_FILE, Lost, to_lines
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.media import encode_png
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "viewing.json"
ROUNDS = 3
EVERY = 0.05
CHILD = """
import json, runpy, sys, time
began = time.perf_counter()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(json.dumps(time.perf_counter() - began))
"""


@main_guard
def main() -> None:
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        large, small = write(folder / "large", documents), write(folder / "small", documents // 100)
        pages = {
            "first page": ("--start", "0"),
            "page in the middle": ("--start", str(documents // 2)),
            "last page": ("--start", "-20"),
        }
        figures = [Figure("documents", documents), Figure("things lost", documents)]
        for name, options in pages.items():
            seconds, memory = measure("view.py", str(large), str(folder / "page.html"), *options)
            figures += [Figure(f"{name}, seconds", seconds, 30, at_most=True), Figure(f"{name}, GiB", memory, 1, at_most=True)]
        seconds, memory = measure("view.py", str(large), str(folder / "page.html"), "--id", f"made/{documents - 7}")
        figures += [
            Figure("one found by its id, seconds", seconds, 30, at_most=True),
            Figure("by its id, GiB", memory, 1, at_most=True),
        ]
        seconds, memory = measure("view.py", str(small), str(folder / "page.html"))
        figures += [Figure("first page of a hundredth, seconds", seconds), Figure("first page of a hundredth, GiB", memory)]
        seconds, memory = measure("card.py", str(large), str(folder / "README.md"), rounds=1)
        assert f"| {documents:,} |" in (folder / "README.md").read_text()
        figures += [Figure("card, seconds", seconds), Figure("card, GiB", memory, 1, at_most=True)]
    sys.exit(0 if report(figures, RESULT) else 1)


def write(folder: Path, documents: int) -> Path:
    """Documents of a few sentences, every tenth with a picture, beside a list of as many that were lost."""
    picture = Image(encode_png(Picture.new("RGB", (64, 48), "navy")), "png", 64, 48, "blue")
    with ShardWriter(folder, built={}) as writer:
        for number in range(documents):
            parts = (Text(f"Document {number}. " + "Some words that stand in every one of them. " * 5),)
            writer.write(
                Document(f"made/{number}", "made", (*parts, picture) if number % 10 == 0 else parts, {"license": "CC0-1.0"})
            )
    with open(folder / LOST_FILE, "wb") as file:
        for number in range(documents):
            file.write(to_lines([Lost(f"gone/{number}", "5 words", f"gone/{number}", rule=f"rule_{number % 7}")]))
    return folder


def measure(script: str, *arguments: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """(Median seconds without Python's start, most GiB) of a tool in a process of its own."""
    seconds, most = [], 0
    for _ in range(rounds):
        command = [sys.executable, "-c", CHILD, str(ROOT / "datasets" / script), *arguments]
        with tempfile.TemporaryFile("w+") as told:
            process = psutil.Popen(command, stdout=told)
            while process.poll() is None:
                most = max(most, held_by(process))
                time.sleep(EVERY)
            told.seek(0)
            if process.returncode:
                sys.exit(f"{script} ended with {process.returncode}\n{told.read()}")
            seconds.append(json.loads(told.read().splitlines()[-1]))
    return statistics.median(seconds), most / 2**30


def held_by(process: psutil.Process) -> int:
    """Bytes of memory of a process and those below it; 0 where it has just ended."""
    try:
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
