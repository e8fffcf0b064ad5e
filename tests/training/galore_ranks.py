"""Scenarios of training by GaLore, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ranks import import_once, one_step, resume, write_shards  # noqa: E402
from scenarios import answer  # noqa: E402

OPTIMIZER = {"kind": "galore", "learning_rate": 0.02, "gradient_clip": 0.05, "rank": 2, "every": 3}
SCENARIOS = {
    "resume": partial(resume, stage=0, optimizer=OPTIMIZER),
    **{f"step-{size}": partial(one_step, size=size, stage=0, optimizer=OPTIMIZER) for size in (1, 2)},
}


def prepare(folder: Path) -> None:
    write_shards(folder / "data")
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
