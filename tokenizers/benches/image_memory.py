"""Memory of an image tokenizer with ten times the pictures: trained on random parts of them, and measured against its floors.

    python tokenizers/benches/image_memory.py [OUT]

Drawn scenes as benches/memory.py makes them, in OUT (default runs/memory): a training keeps them larger than its own side, so
that parts can be drawn of them, and as many as 16 MiB have room for; `evaluate.py --trained-on` then looks through all of them.
Writes tokenizers/results/image_memory.json.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path

import memory

from mmpt.results import Figure, report

AUGMENT = {"crop": {"least": 0.5}, "color": 0.2}


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/memory")
    sizes = {"once": memory.COUNT, "more": memory.MORE * memory.COUNT}
    data = {name: memory.scenes(out / f"shards-{name}", count) for name, count in sizes.items()}
    settings = copy.deepcopy(memory.SPECS["image"])
    settings["tokenizer"]["augment"] = AUGMENT
    figures = []
    for what, run in (("training on parts", train), ("floors", measure)):
        peaks = {name: run(out, settings, data[name], data["once"], out / f"parts-{name}") for name in data}
        figures += [Figure(f"{what}: peak MiB, {sizes[name]} pictures", peak / 1024) for name, peak in peaks.items()]
        ratio = peaks["more"] / peaks["once"]
        figures.append(Figure(f"{what}: memory with {memory.MORE} x the pictures", ratio, memory.BAR, at_most=True))
    sys.exit(0 if report(figures, memory.RESULTS / "image_memory.json") else 1)


def train(out: Path, settings: dict, data: Path, held_out: Path, run: Path) -> int:
    return memory.trained(out, "image", {"kind": "image", "data": [str(data)], **settings}, run)


def measure(out: Path, settings: dict, data: Path, held_out: Path, run: Path) -> int:
    """The most memory, in KiB, of measuring what was trained in `run` on the same held-out pictures."""
    command = [sys.executable, str(memory.ROOT / "tokenizers" / "evaluate.py"), str(run), str(held_out)]
    with open(out / f"{run.name}-evaluation.log", "wb") as log:
        more = ["--limit", "100", "--trained-on", str(data)]
        process = subprocess.Popen([*command, *more], stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: so short a training passes no gate
        sys.exit(f"{out / run.name}-evaluation.log: ended with exit code {process.returncode}")
    return usage.ru_maxrss


if __name__ == "__main__":
    main()
