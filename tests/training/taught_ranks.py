"""Scenarios of training beside a teacher, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ranks import BACKBONE, VOCABULARY, import_once, objectives, one_step, resume, write_shards  # noqa: E402
from scenarios import answer  # noqa: E402

from mmpt.model.backbone import BackboneConfig, build_backbone  # noqa: E402

NARROW = {**BACKBONE, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}


def teacher(folder: Path, content: dict = NARROW, name: str = "teacher", size: int = VOCABULARY.size) -> str:
    """A model of transformers; where it has the whole vocabulary, with that beside it."""
    path = folder / name
    if not path.exists():
        build_backbone(BackboneConfig(config={**content, "eos_token_id": 1}), size, seed=11).save_pretrained(path)
        if size == VOCABULARY.size:
            VOCABULARY.save(path)
    return str(path)


def taught(folder: Path, until: float = 1.0) -> list:
    """All that a step may learn of a teacher."""
    shared = {"teacher": teacher(folder), "until": until}
    distil = {"kind": "distil", "weight": 0.5, "temperature": 2.0, **shared}
    match = {"kind": "hidden_match", "layer": 1, "fade": "linear", **shared}
    return [*objectives(image=0.5), distil, match]


def step(folder: Path, **options) -> dict:
    return one_step(folder, objectives=taught(folder), **options)


def resumed(folder: Path) -> dict:
    """Killed in the first half of the run, in which alone there is a teacher, and gone on."""
    return resume(folder, 1, objectives=taught(folder, until=0.75))


def phased(folder: Path) -> dict:
    """A source goes and another comes behind step 3, between two checkpoints; killed as it saves the one behind that."""
    write_shards(folder / "more", documents=40)
    more = {"path": str(folder / "more"), "from": 0.5}
    return resume(folder, 0, data=[{"path": str(folder / "data"), "until": 0.5}, more])


REWEIGHTED = {"kind": "reweighted", "strategy": "quadratic", "strength": 2.0}
SCENARIOS = {
    "reweighted": partial(one_step, size=2, stage=0, objectives=[REWEIGHTED], optimizer={"gradient_clip": 0.05}),
    "phased": phased,
    **{f"step-{size}-{stage}": partial(step, size=size, stage=stage) for size in (1, 2) for stage in (0, 3)},
    "checkpointed": partial(step, size=2, stage=0, activation_checkpointing=True),
    "resumed": resumed,
}


def prepare(folder: Path) -> None:
    write_shards(folder / "data")
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
