"""Scenarios of runs that are evaluated, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from launching import facts, import_once, killed_while_saving, launch, recipe, same_bits  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_runs import IDS, VOCABULARY, pretrain, write_shards  # noqa: E402

from mmpt.data.shards.tokens import TokenDocument  # noqa: E402
from mmpt.data.shards.write import TokenShardWriter  # noqa: E402

FILES = ("backbone/model*.safetensors", "training/optimizer*.safetensors", "training/state.json")


def evaluations(run: Path) -> list[dict]:
    path = run / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def asked(folder: Path, **more) -> dict:
    return {"every": 2, "shards": {"few": str(folder / "few"), "odd": str(folder / "odd")}, **more}


def compared(folder: Path, stage: int, size: int = 2, **changes) -> dict:
    """The same run with and without evaluations, and one that is killed as it saves and goes on."""
    train = recipe()
    name = f"{stage}-{size}-{len(changes)}"
    plain = pretrain(folder, f"plain-{name}", stage, **changes)
    runs = [plain] + [
        pretrain(folder, f"{kind}-{name}", stage, evaluate=asked(folder, best={"figure": "odd/text", "better": "more"}), **changes)
        for kind in ("straight", "broken")
    ]
    codes = [launch(size, lambda ranks, run=run: train(run, ranks)) for run in runs[:2]]
    codes.append(launch(size, killed_while_saving(4, train, runs[2])))
    codes.append(launch(size, lambda ranks: train(runs[2], ranks)))
    last = [run.output / "checkpoints" / "step-00000006" for run in runs]
    return {
        "codes": codes,
        "facts": [facts(run.output) for run in runs],
        "evaluations": [evaluations(run.output) for run in runs],
        "weights": same_bits(*last[:2], *FILES[:2]),
        "resumed": same_bits(*last[1:], *FILES),
        "best": [(run.output / "best").resolve().name for run in runs[1:]],
        "kept": [checkpoints(run.output) for run in runs],
        "checkpoint": str(last[1]),
    }


def patience(folder: Path) -> dict:
    """A rate so high that the loss on held-out shards rises from the first evaluation on: best kept beyond `keep`, the run ends,
    and ends again when it is started again; with more patience it goes on."""
    train = recipe()
    changes = {"steps": 20, "optimizer": {"learning_rate": 0.5}, "run": {"keep": 1, "save_every": 1}, "schedule": "constant"}
    best = {"figure": "loss", "patience": 3}
    config = pretrain(folder, "patience", 0, evaluate=asked(folder, every=1, best=best), **changes)
    codes = [launch(2, lambda ranks: train(config, ranks))]
    first = evaluations(config.output)
    found = {"kept": checkpoints(config.output), "best": (config.output / "best").resolve().name}
    codes.append(launch(2, lambda ranks: train(config, ranks)))
    again = evaluations(config.output)
    longer = pretrain(folder, "patience", 0, evaluate=asked(folder, every=1, best={**best, "patience": 5}), **changes)
    codes.append(launch(2, lambda ranks: train(longer, ranks)))
    return {**found, "codes": codes, "first": first, "again": again, "longer": evaluations(config.output)}


def other_ranks(folder: Path) -> dict:
    """Held-out losses of one checkpoint's weights do not depend on how many ranks read them."""
    train, found = recipe(), {}
    for size in (1, 2, 3):
        run = pretrain(
            folder, f"alone-{size}", 0, steps=1, schedule="constant", loader={"packs_per_step": 6}, evaluate=asked(folder)
        )
        found[size] = (launch(size, lambda ranks, run=run: train(run, ranks)), evaluations(run.output))
    return found


def ramp(folder: Path, stage: int) -> dict:
    """2 packs, then 4, then 6: straight, and killed as it saves within the ramp; and on one rank."""
    train = recipe()
    changes = {"loader": {"packs_per_step": 6, "ramp": [{"until": 2, "packs": 2}, {"until": 5, "packs": 4}]}}
    straight, broken, alone = (pretrain(folder, f"ramp-{kind}-{stage}", stage, **changes) for kind in "sba")
    codes = [launch(2, lambda ranks: train(straight, ranks)), launch(2, killed_while_saving(4, train, broken))]
    codes += [launch(2, lambda ranks: train(broken, ranks)), launch(1, lambda ranks: train(alone, ranks))]
    last = [run.output / "checkpoints" / "step-00000006" for run in (straight, broken)]
    return {
        "codes": codes,
        "facts": [facts(run.output) for run in (straight, broken, alone)],
        "resumed": same_bits(*last, *FILES),
        "state": json.loads((last[0] / "training" / "state.json").read_text()),
    }


SCENARIOS = {
    **{f"stage-{stage}": partial(compared, stage=stage) for stage in (0, 1, 2, 3)},
    "alone": partial(compared, stage=0, size=1),
    "shared": partial(compared, stage=0, loader={"sequence_parallel": 2}, run={"keep": 2}),
    "patience": patience,
    "other-ranks": other_ranks,
    **{f"ramp-{stage}": partial(ramp, stage=stage) for stage in (0, 1, 2, 3)},
}


def prepare(folder: Path) -> None:
    write_shards(folder / "data")
    draw = np.random.default_rng(5)
    for name, count, high in (("few", 3, 30), ("odd", 17, 60)):
        with TokenShardWriter(folder / name, vocabulary=VOCABULARY, built={}) as writer:
            for number in range(count):
                ids = draw.choice(IDS, draw.integers(3, min(high, 40)))
                weights = None if name == "few" else draw.choice([0.0, 1.0, 2.5], len(ids)).astype(np.float32)
                writer.write(TokenDocument(f"{name}-{number}", name, ids, weights))
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
