"""Scenarios of preference optimisation on one rank and several. Runs under tests/training/scenarios.py."""

import json
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from launching import facts, import_once, killed_while_saving, launch, recipe, same_bits  # noqa: E402
from ranks import text_model  # noqa: E402
from scenarios import answer  # noqa: E402
from test_dpo import preferences  # noqa: E402
from tiny_runs import VOCABULARY, pretrain, settings  # noqa: E402

from mmpt.config import parse_config  # noqa: E402
from mmpt.data.loading.packing import pack  # noqa: E402
from mmpt.data.shards.write import TokenShardWriter  # noqa: E402
from mmpt.model.backbone import build_backbone  # noqa: E402
from mmpt.training.config import TrainingConfig  # noqa: E402
from mmpt.training.engine import build_engine  # noqa: E402
from mmpt.training.language_model import Start  # noqa: E402
from mmpt.training.state import weights  # noqa: E402
from mmpt.training.trainer import train_step  # noqa: E402

OBJECTIVES = [{"kind": "dpo", "beta": 0.5}, {"kind": "next_token", "weight": 0.3}]


def prepare(folder: Path) -> None:
    import_once(folder)
    with TokenShardWriter(folder / "data", vocabulary=VOCABULARY, built={}) as writer:
        for one in preferences(40):
            writer.write(one)


def one_step(folder: Path, size: int, stage: int) -> dict:
    """A step over two packs of different numbers of pairs."""
    config = pretrain(folder, "one", stage, objectives=OBJECTIVES, loader={"packs_per_step": 2}, schedule={"warmup_steps": 0})
    packs, result = [pack(preferences(2, seed=1)), pack(preferences(5, seed=2))], folder / f"one-{size}-{stage}.json"

    def work(ranks) -> None:
        model, start = (build_backbone(config.backbone, VOCABULARY.size, seed=seed) for seed in (5, 6))
        engine = build_engine(model, VOCABULARY, config, ranks, start=Start(start))
        done = train_step(engine, packs[ranks.rank :: size], 1, config, ranks)
        after = weights(engine)
        if ranks.rank == 0:
            flat = torch.cat([parameter.flatten() for parameter in after.values()])
            means = {name: mean.tolist() for name, mean in done.means.items()}
            found = {"loss": done.loss, "norm": done.gradient_norm, "means": means, "weights": flat.tolist()}
            result.write_text(json.dumps(found))

    return {"codes": launch(size, work), **json.loads(result.read_text())}


def resume(folder: Path, stage: int) -> dict:
    """A straight run, and one that is killed while it saves and resumed: the model to compare with is that of the start."""
    train = recipe()
    straight, broken = (pretrain(folder, f"{kind}-{stage}", stage, objectives=OBJECTIVES) for kind in ("straight", "broken"))
    codes = [launch(2, lambda ranks: train(straight, ranks))]
    codes.append(launch(2, killed_while_saving(4, train, broken)))
    codes.append(launch(2, lambda ranks: train(broken, ranks)))
    last = [config.output / "checkpoints" / "step-00000006" for config in (straight, broken)]
    told = [json.loads(line) for line in (broken.output / "metrics.jsonl").read_text().splitlines()]
    return {
        "codes": codes, "straight": facts(straight.output), "resumed": facts(broken.output),
        "margins": [line["dpo_margin"] for line in told],
        "same_files": same_bits(*last, "backbone/model*.safetensors", "training/optimizer*.safetensors"),
    }  # fmt: skip


def adapted(folder: Path) -> dict:
    """Adapters and new rows learn, which the start does not have, from a text model; then more steps from that checkpoint."""
    train, changes = recipe(), {"objectives": OBJECTIVES, "optimizer": {"learning_rate": 0.05}}
    content = settings(folder, "adapted", 0, **changes)
    first = {"backbone": {"path": str(text_model(folder))}, "new_rows": True, "adapter": {"rank": 2}}
    last = str(folder / "adapted" / "checkpoints" / "step-00000006")
    more = {"from": last, "new_rows": True, "output": str(folder / "more")}
    configs = [parse_config({**content, **own}, TrainingConfig, "adapted") for own in (first, more)]
    codes = [launch(1, lambda ranks, config=config: train(config, ranks)) for config in configs]
    told = [[json.loads(line) for line in (one.output / "metrics.jsonl").read_text().splitlines()] for one in configs]
    return {"codes": codes, "margins": [[line["dpo_margin"] for line in lines] for lines in told]}


SCENARIOS = {f"one-{size}-{stage}": partial(one_step, size=size, stage=stage) for size in (1, 2) for stage in (0, 2, 3)}
SCENARIOS["adapted"] = adapted
SCENARIOS |= {f"resume-{stage}": partial(resume, stage=stage) for stage in (0, 3)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    answer(SCENARIOS, prepare)
