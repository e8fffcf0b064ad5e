"""Scenarios of objectives that learn weights of their own, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ranks import import_once, objectives, one_step, resume, write_shards  # noqa: E402
from scenarios import answer  # noqa: E402

AHEAD = [*objectives(image=0.5), {"kind": "future_tokens", "tokens": 3, "heads": 2, "weight": 0.5}]


def resumed(folder: Path) -> dict:
    found = resume(folder, 1, objectives=AHEAD)
    files = [folder / f"{kind}-1-1/checkpoints/step-00000006/objectives.safetensors" for kind in ("straight", "broken")]
    return {**found, "heads": [files[0].is_file(), files[0].read_bytes() == files[1].read_bytes()]}


SCENARIOS = {
    "step-1-0": partial(one_step, size=1, stage=0, objectives=AHEAD),
    "step-2-0": partial(one_step, size=2, stage=0, objectives=AHEAD),
    "step-2-3": partial(one_step, size=2, stage=3, objectives=AHEAD),
    "resumed": resumed,
}


def prepare(folder: Path) -> None:
    write_shards(folder / "data")
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
