"""Whether two runs of the same seed and data learned the same, and how fast each was: before a change of the code, and after.

    python recipes/benches/compare_runs.py BEFORE AFTER

Both are run folders whose metrics.jsonl has a line for every step (`run.log_every: 1`). Writes recipes/results/compare_runs.json
and exits 1 where a loss differs by more than 1e-6, or a step takes more than 3 % longer in the median.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from mmpt.errors import DataError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser

ROOT = Path(__file__).resolve().parents[2]
WARMUP = 5
"""Steps whose time is left out: allocations, and caches that fill."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=f"the run {name} the change")
    arguments = parser.parse_args()
    before, after = steps(arguments.before), steps(arguments.after)
    if [one["step"] for one in before] != [one["step"] for one in after]:
        raise DataError(f"{arguments.before} and {arguments.after} hold different steps")
    pairs = list(zip(before, after, strict=True))
    apart = max(abs(one["loss"] - other["loss"]) for one, other in pairs)
    apart_by_modality = max(abs(one["nll"][name] - other["nll"][name]) for one, other in pairs for name in one["nll"])
    seconds = [statistics.median(one["seconds"] for one in run[WARMUP:]) for run in (before, after)]
    figures = [
        Figure("steps compared", len(pairs)),
        Figure("largest difference of a loss", apart, 1e-6, at_most=True),
        Figure("largest difference of a modality's nll", apart_by_modality, 1e-6, at_most=True),
        Figure("median seconds of a step, before", seconds[0]),
        Figure("median seconds of a step, after / before", seconds[1] / seconds[0], 1.03, at_most=True),
    ]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "compare_runs.json") else 1)


def steps(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl. Raises `DataError` where there are too few."""
    path = run / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    if len(found) <= WARMUP:
        raise DataError(f"{path}: {len(found)} lines, expected more than {WARMUP}")
    return found


if __name__ == "__main__":
    main()
