"""Seconds until a person is answered: help, a mistake in a file, and a short answer of a model.

    python recipes/benches/startup.py [RUN]

RUN is a checkpoint or a run folder, by default runs/quickstart; without one there is no row for it. Writes
recipes/results/startup.json and exits 1 where a bar is missed. Medians of five; what lies on disk was read once before.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser

ROOT = Path(__file__).resolve().parents[2]
TIMES = 5
SCRIPTS = [path for folder in ("datasets", "tokenizers", "recipes", "kernels") for path in sorted((ROOT / folder).glob("*.py"))]


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/quickstart"), metavar="RUN", help="what answers")
    run = parser.parse_args().run
    figures = [Figure("seconds of --help, the slowest script", max(seconds(path, "--help") for path in SCRIPTS), 2, at_most=True)]
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder) / "wrong.yaml"
        wrong.write_text("output: a\nlerning_rate: 1\n", encoding="utf-8")
        took = seconds(ROOT / "recipes" / "train.py", wrong, code=2)
        figures.append(Figure("seconds to the mistakes in a recipe", took, 2, at_most=True))
    if run.is_dir():
        took = seconds("-m", "mmpt.cli", "generate", run, "--text", "a", "--to", "text", "--max-tokens", "8")
        figures.append(Figure("seconds of mmpt generate, 8 tokens", took, 5, at_most=True))
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "startup.json") else 1)


def seconds(*command: object, code: int = 0) -> float:
    """Median wall time of a Python command that ends with `code`."""
    found = []
    for _ in range(TIMES + 1):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
        found.append(time.perf_counter() - begun)
        if done.returncode != code:
            sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return statistics.median(found[1:])


if __name__ == "__main__":
    main()
