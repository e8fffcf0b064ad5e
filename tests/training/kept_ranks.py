"""Scenarios of what is kept: sums of gradients of bfloat16 weights, and copies of checkpoints.

Runs under tests/training/scenarios.py.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from launching import facts, killed_while_saving, launch, recipe, same_bits  # noqa: E402
from ranks import documents, half, prepare, pretrain  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_runs import VOCABULARY  # noqa: E402

from mmpt.data.loading.packing import pack  # noqa: E402
from mmpt.model.backbone import build_backbone  # noqa: E402
from mmpt.training.engine import build_engine  # noqa: E402
from mmpt.training.trainer import train_step  # noqa: E402


def equal_packs(folder: Path, stage: int, packs: int) -> dict:
    """The gradient's norm in a step of `packs` times the same pack, of bfloat16 weights."""
    options = {"loader": {"packs_per_step": packs}, "optimizer": {"gradient_clip": 100.0}, "deepspeed": half(stage)}
    config, result = pretrain(folder, "equal-packs", stage, **options), folder / f"equal-packs-{stage}-{packs}.json"

    def work(ranks) -> None:
        engine = build_engine(build_backbone(config.backbone, VOCABULARY.size, seed=5), VOCABULARY, config, ranks)
        done = train_step(engine, [pack(documents(range(3, 8)))] * packs, 1, config, ranks)
        result.write_text(json.dumps(done.gradient_norm))

    return {"codes": launch(1, work), "norm": json.loads(result.read_text())}


def copied(folder: Path) -> dict:
    """A run killed while it writes the checkpoint of step 4, whose disk is then lost: it goes on from the copy of step 2."""
    train, copies = recipe(), folder / "copies"
    straight, broken = (
        pretrain(folder, f"copied-{kind}", 1, run={"copy_to": str(copies / kind)}) for kind in ("straight", "broken")
    )
    before = copies / "broken" / "checkpoints" / "step-00000002" / "manifest.json"
    killed = killed_while_saving(4, train, broken, ready=before.is_file)  # else the copy may be half there
    codes = [launch(2, lambda ranks: train(straight, ranks)), launch(2, killed)]
    there = sorted(path.name for path in (copies / "broken" / "checkpoints").iterdir())
    shutil.rmtree(broken.output)
    codes.append(launch(2, lambda ranks: train(broken, ranks)))
    last = [config.output / "checkpoints" / "step-00000006" for config in (straight, broken)]
    return {
        "codes": codes, "there": there, "straight": facts(straight.output), "resumed": facts(broken.output),
        "kept": sorted(path.name for path in (copies / "straight" / "checkpoints").iterdir()),
        "same_files": same_bits(*last, "backbone/model*.safetensors", "training/optimizer*.safetensors", "training/state.json"),
    }  # fmt: skip


SCENARIOS = {
    "copied": copied,
    **{f"half-{stage}-{packs}": partial(equal_packs, stage=stage, packs=packs) for stage in (2, 3) for packs in (1, 64)},
}

if __name__ == "__main__":
    answer(SCENARIOS, prepare)
