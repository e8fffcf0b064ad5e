"""Scenarios of training under ZeRO 3 on two ranks whose weights come from their files one by one.

Runs under tests/training/scenarios.py.
"""

import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from ranks import BACKBONE, VOCABULARY, facts, launch, prepare, recipe, settings  # noqa: E402
from scenarios import answer  # noqa: E402

from mmpt.config import merged, parse_config  # noqa: E402
from mmpt.model import backbone  # noqa: E402
from mmpt.model.backbone import BackboneConfig, build_backbone  # noqa: E402
from mmpt.model.hollow import is_hollow  # noqa: E402
from mmpt.training import engine  # noqa: E402
from mmpt.training.config import TrainingConfig  # noqa: E402

ROWS = {"new_rows": True, "backbone": {"row_init": "multivariate"}}
CASES = {
    "tied": {},
    "rows-rest": {"optimizer": {"parts": {"layers": 0}}},
    "untied": {"untied": True, "kernels": {"norm": "torch", "rope": "torch", "swiglu": "torch"}},
    "lora": {**ROWS, "untied": True, "adapter": {"rank": 2, "dropout": 0.2}},
    "half": {**ROWS, "adapter": {"rank": 2}, "deepspeed": {"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}}},
}


def text_model(folder: Path, tied: bool) -> Path:
    path = folder / f"text-{tied}"
    if not path.exists():
        content = BackboneConfig(config={**BACKBONE, "num_hidden_layers": 3, "tie_word_embeddings": tied})
        build_backbone(content, VOCABULARY.text_size + 3, seed=9).save_pretrained(path, max_shard_size="4KB")
    return path


def one_by_one(folder: Path, name: str) -> dict:
    """The same five steps on weights from their files one by one, and on a model that each rank has loaded whole before."""
    changes = dict(CASES[name])
    path = text_model(folder, not changes.pop("untied", False))
    content = merged({**settings(folder, "x", 3), "steps": 5, "backbone": {"path": str(path)}}, changes)
    train, found, begun = recipe(), [], []
    for whole in (False, True):
        config = parse_config({**content, "output": str(folder / f"{name}-{whole}")}, TrainingConfig, name)
        seen = folder / f"{name}-{whole}.seen"

        def work(ranks, config=config, whole=whole, seen=seen) -> int:
            if whole:
                backbone.open_hollow = lambda *_: None
            partition = engine.partition

            def looking(module, *rest) -> None:
                hollow = is_hollow(module)
                partition(module, *rest)
                kept = sum(parameter.ds_tensor.numel() for parameter in module.parameters())
                total = sum(parameter.ds_numel for parameter in module.parameters())
                held = sum(parameter.untyped_storage().nbytes() for parameter in module.parameters())
                if ranks.rank == 1:
                    seen.write_text(f"{hollow} {kept / total:.3f} {held}")

            engine.partition = looking
            return train(config, ranks)

        found.append(launch(2, work))
        begun.append(seen.read_text().split())
    runs = [folder / f"{name}-{whole}" for whole in (False, True)]
    last = [run / "checkpoints" / "step-00000005" for run in runs]
    files = sorted(str(file.relative_to(last[0])) for file in last[0].rglob("*.safetensors"))
    return {
        "codes": found, "begun": begun, "facts": [facts(run) for run in runs],
        "same": {file: (last[0] / file).read_bytes() == (last[1] / file).read_bytes() for file in files},
    }  # fmt: skip


SCENARIOS = {name: partial(one_by_one, name=name) for name in CASES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    answer(SCENARIOS, prepare)
