"""Scenarios of training with parts of a decoder replaced or added to, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from feature_ranks import features, write_pictures  # noqa: E402
from ranks import BACKBONE, facts, import_once, killed_while_saving, launch, recipe, settings, write_shards  # noqa: E402
from scenarios import answer  # noqa: E402

from mmpt.config import parse_config  # noqa: E402
from mmpt.model.forward import packed_logits  # noqa: E402
from mmpt.model.loading import load_model, load_parts  # noqa: E402
from mmpt.training.config import TrainingConfig  # noqa: E402
from mmpt.training.stages import stages  # noqa: E402

SPARSE = {"kind": "sltrain", "rank": 4, "alpha": 8, "share": 0.25}
CONNECTOR = {"kind": "linear", "start_token": True}
ENTERS = {
    "layers": {"connector": CONNECTOR, "enters": {"kind": "layers", "encoder": [2, 5], "decoder": [0, 1]}},
    "inner": {"enters": {"kind": "inner", "decoder": [1]}},
}
DEEPER = {**BACKBONE, "num_hidden_layers": 2}


def last(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def same(one: Path, other: Path) -> dict[str, bool]:
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*.safetensors"))
    return {name: (one / name).read_bytes() == (other / name).read_bytes() for name in names}


def logits(model) -> torch.Tensor:
    ids = torch.arange(12)[None]
    with torch.no_grad():
        return packed_logits(model.eval(), ids, ids, torch.tensor([0, 12]))


def straight_and_broken(folder: Path, name: str, content: dict) -> dict:
    """Two ranks, straight and killed while they save step 4, then gone on."""
    train, runs = recipe(), []
    for each in (name, f"{name}-broken"):
        runs.append(parse_config({**content, "output": str(folder / each)}, TrainingConfig, each))
    codes = [launch(2, lambda ranks: train(runs[0], ranks)), launch(2, killed_while_saving(4, train, runs[1]))]
    codes.append(launch(2, lambda ranks: train(runs[1], ranks)))
    made = [last(run.output, 6) for run in runs]
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "same": same(*made), "checkpoint": str(made[0])}


def sparse(folder: Path, stage: int) -> dict:
    """SLTrain: straight, broken, and the checkpoint as plain matrices and as factors."""
    content = {**settings(folder, "x", stage), "backbone": {"config": BACKBONE, "linear": SPARSE}}
    found = straight_and_broken(folder, f"sparse-{stage}", content)
    checkpoint = Path(found["checkpoint"])
    plain, factors = load_model(checkpoint)[0], load_parts(checkpoint, factors=True)[0]
    found["difference"] = float((logits(plain) - logits(factors)).abs().max())
    found["layers"] = [type(model.model.layers[0].mlp.up_proj).__name__ for model in (plain, factors)]
    return found


def sparse_stages(folder: Path) -> dict:
    """A second stage goes on with the factors of the first; a finetuning run takes the plain matrices."""
    train = recipe()
    each = [{"name": "one", "steps": 2}, {"name": "two", "steps": 2}]
    content = {
        **settings(folder, "sparse-stages", 0, stages=each, schedule="cosine"),
        "backbone": {"config": BACKBONE, "linear": SPARSE},
    }
    config = parse_config(content, TrainingConfig, "stages")
    codes = [launch(1, lambda ranks: max(train(stage, ranks) for stage in stages(config)))]
    before, after = (load_file(last(config.output / name, 2) / "linear.safetensors") for name in ("one", "two"))
    base = last(config.output / "two", 2)
    content = {**settings(folder, "sparse-tuned", 0, steps=2, schedule="cosine"), "from": str(base), "adapter": "lora"}
    more = parse_config(content, TrainingConfig, "tuned")
    codes.append(launch(1, lambda ranks: train(more, ranks)))
    fixed = [name for name in before if name.endswith(("starts", "columns"))]
    return {
        "codes": codes,
        "support": all(torch.equal(before[name], after[name]) for name in fixed),
        "learned": all(not torch.equal(value, after[name]) for name, value in before.items() if name.endswith((".a", ".values"))),
        "files": sorted(path.name for path in last(more.output, 2).iterdir()),
    }  # fmt: skip


def adapted(folder: Path, adapter: dict, stage: int) -> dict:
    """An adapter on a frozen decoder: straight, broken; what was trained, merged, and exported."""
    base = folder / "base"
    if not base.exists():
        train = recipe()
        content = {**settings(folder, "base", 0, steps=2, schedule="cosine"), "backbone": {"config": BACKBONE}}
        launch(1, lambda ranks: train(parse_config(content, TrainingConfig, "base"), ranks))
    content = {**settings(folder, "x", stage), "from": str(last(base, 2)), "adapter": adapter}
    name = f"{adapter['kind']}-{stage}"
    found = straight_and_broken(folder, name, content)
    trained = load_model(Path(found["checkpoint"]))[0]
    before = logits(load_model(last(base, 2))[0])
    found["moved"] = float((logits(trained) - before).abs().max())
    return found


def eight_bits(folder: Path) -> dict:
    """Moments of eight bits, of a decoder whose matrices are large enough for them: straight, broken."""
    backbone = {"config": {**BACKBONE, "hidden_size": 64, "intermediate_size": 96}}
    content = settings(folder, "x", 0, optimizer={"kind": "adamw8bit", "learning_rate": 0.02}, backbone=backbone)
    return straight_and_broken(folder, "adamw8bit", content)


def kernels(folder: Path) -> dict:
    """The same run with transformers' own modules and with mmpt's functions in their place."""
    train, runs = recipe(), []
    for name in ("plain", "torch"):
        options = {"kernels": {"norm": name, "rope": name, "swiglu": name, "attention": "dense" if name == "torch" else "auto"}}
        content = {**settings(folder, f"kernels-{name}", 0, **options), "backbone": {"config": BACKBONE}}
        runs.append(parse_config(content, TrainingConfig, name))
    codes = [launch(1, lambda ranks, run=run: train(run, ranks)) for run in runs]
    refused = parse_config(
        {**content, "kernels": {"attention": "flex"}, "output": str(folder / "refused")}, TrainingConfig, "refused"
    )
    return {
        "codes": codes,
        "facts": [facts(run.output) for run in runs],
        "refused": launch(1, lambda ranks: train(refused, ranks)),
    }


def entries(folder: Path, kind: str, stage: int) -> dict:
    """Pictures enter a frozen decoder in other ways than as rows: straight, and broken."""
    base = folder / "deeper"
    if not base.exists():
        train = recipe()
        content = {**settings(folder, "deeper", 0, steps=2, schedule="cosine"), "backbone": {"config": DEEPER}}
        launch(1, lambda ranks: train(parse_config(content, TrainingConfig, "deeper"), ranks))
    slots = 2 if kind == "layers" else 3
    data = folder / f"pictures-{slots}"
    if not data.exists():
        write_pictures(data, 32, slots=slots)
    image = {**features(folder)["image"], **ENTERS[kind]}
    options = {"data": [{"path": str(folder / "data"), "weight": 0.5}, {"path": str(data)}], "features": {"image": image}}
    content = {**settings(folder, "x", stage, **options), "from": str(last(base, 2)), "adapter": None}
    found = straight_and_broken(folder, f"{kind}-{stage}", content)
    return found


SCENARIOS = {
    **{f"sparse-{stage}": partial(sparse, stage=stage) for stage in (0, 3)},
    "sparse-stages": sparse_stages,
    "ia3-0": partial(adapted, adapter={"kind": "ia3"}, stage=0),
    **{f"vera-{stage}": partial(adapted, adapter={"kind": "vera", "rank": 8}, stage=stage) for stage in (1, 3)},
    "loha-3": partial(adapted, adapter={"kind": "loha", "rank": 2, "alpha": 2}, stage=3),
    **{
        f"nf4-{stage}": partial(adapted, adapter={"kind": "lora", "rank": 2, "alpha": 4, "base": "nf4"}, stage=stage)
        for stage in (0, 2)
    },
    "adamw8bit": eight_bits,
    "kernels": kernels,
    **{f"{kind}-{stage}": partial(entries, kind=kind, stage=stage) for kind in ENTERS for stage in (0, 3)},
}


def prepare(folder: Path) -> None:
    torch.compiler.set_stance("force_eager")  # on a CPU bitsandbytes has torch compile what it does, for half a minute
    write_shards(folder / "data")
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
