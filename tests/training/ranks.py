"""Scenarios of training on several ranks, each rank a process forked from this one, so that the libraries are imported once.

Runs under tests/training/scenarios.py.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mmpt.config import merged, parse_config, read_yaml
from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import MmptError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.sequence import cut
from mmpt.training import signals, trainer, watch
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import watched
from mmpt.training.engine import build_engine
from mmpt.training.language_model import by_modality
from mmpt.training.plan import rehearse
from mmpt.training.signals import StopRequest
from mmpt.training.stages import stages
from mmpt.training.state import weights
from mmpt.training.trainer import train_step

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
from launching import ROOT, facts, import_once, killed_while_saving, launch, recipe, same_bits  # noqa: E402, F401
from losses import weighted_loss  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_runs import BACKBONE, EXPERTS, IDS, VOCABULARY, objectives, pretrain, settings, write_shards  # noqa: E402, F401


def resume(folder: Path, stage: int, **changes) -> dict:
    """A straight run; one killed while it writes the checkpoint of step 4, then resumed."""
    train = recipe()
    straight, broken = (pretrain(folder, f"{kind}-{stage}-{len(changes)}", stage, **changes) for kind in ("straight", "broken"))
    codes = [launch(2, lambda ranks: train(straight, ranks))]
    codes.append(launch(2, killed_while_saving(4, train, broken)))
    left = sorted(path.name for path in (broken.output / "checkpoints").iterdir())
    codes.append(launch(2, lambda ranks: train(broken, ranks)))
    last = [config.output / "checkpoints" / "step-00000006" for config in (straight, broken)]
    return {
        "codes": codes, "left": left, "straight": facts(straight.output), "resumed": facts(broken.output),
        "kept": sorted(path.name for path in (broken.output / "checkpoints").iterdir()),
        "same_files": same_bits(*last, "backbone/model*.safetensors", "training/optimizer*.safetensors", "training/state.json"),
        "files": [path.name for path in sorted(last[0].rglob("*-of-*.safetensors"))],
    }  # fmt: skip


def elastic(folder: Path, changes: tuple[tuple[int, int, int], ...] = ((2, 2, 4), (1, 3, 8), (3, 3, 24))) -> dict:
    """Steps on 2 ranks under the first stage of `changes`, straight; and with `changes` (ranks, stage, until which step). Sizes
    of parameters are no multiples of 3."""
    train, name = recipe(), f"elastic-{len(changes)}-{changes[0][1]}-{changes[-1][0]}"
    options = {"steps": changes[-1][2], "loader": {"packs_per_step": 6}, "run": {"save_every": 4}}
    straight = pretrain(folder, f"{name}-straight", changes[0][1], **options)
    codes = [launch(2, lambda ranks: train(straight, ranks))]
    for size, stage, until in changes:
        config = pretrain(folder, name, stage, **options)

        def work(ranks, config=config, until=until) -> int:
            class Until(StopRequest):
                number = property(lambda self: 0, lambda self, value: None)

            step = trainer.train_step

            def stopping(engine, batches, at, *rest) -> object:
                return step(engine, batches, at, *rest[:-1], 1 if at == until else 0)

            signals.StopRequest, trainer.train_step = Until, stopping
            return train(config, ranks)

        codes.append(launch(size, work))
    last = config.output / "checkpoints" / f"step-{changes[-1][2]:08d}"
    return {"codes": codes, "straight": facts(straight.output), "changed": facts(config.output), "last": str(last)}


def documents(numbers: range) -> list[TokenDocument]:
    draw = np.random.default_rng(1)
    made = [draw.choice(IDS, 4 + 3 * number) for number in range(8)]
    weighted = [np.linspace(0, number, len(ids)).astype(np.float32) for number, ids in enumerate(made)]
    return [TokenDocument(f"document-{number}", "test", made[number], weighted[number]) for number in numbers]


def one_step(folder: Path, size: int, stage: int, shared: int = 1, **changes) -> dict:
    """One step over two packs of very different weight, on one rank or two, which may share packs: loss, gradient norm, tokens,
    weights after it."""
    config = pretrain(
        folder,
        "one-step",
        stage,
        **merged(
            {"loader": {"packs_per_step": 2}, "schedule": {"warmup_steps": 0}, "optimizer": {"gradient_clip": 0.05}}, changes
        ),
    )
    packs = [pack(documents(range(0, 3))), pack(documents(range(3, 8)))]
    result = folder / f"one-step-{size}-{stage}-{shared}.json"

    def work(ranks) -> None:
        ranks = ranks.sharing(shared)
        model = build_backbone(config.backbone, VOCABULARY.size, seed=5)
        engine = build_engine(model, VOCABULARY, config, ranks)
        mine = packs[ranks.reader[0] :: ranks.reader[1]]
        done = train_step(engine, mine, 1, config, ranks)
        after = weights(engine)
        if ranks.rank == 0:
            flat = torch.cat([parameter.flatten() for parameter in after.values()])
            balance = float(done.means.get("router_balance", 0.0))
            found = {"loss": done.loss, "balance": balance, "norm": done.gradient_norm, "tokens": done.amounts["tokens"]}
            result.write_text(json.dumps({**found, "weights": flat.tolist()}))

    return {"codes": launch(size, work), **json.loads(result.read_text())}


def half(stage: int) -> dict:
    return {"zero_optimization": {"stage": stage}, "bf16": {"enabled": True}}


def shared_gradients(folder: Path, size: int) -> dict:
    """Loss and every gradient of a pack that `size` ranks share, 4 heads on 2 key-value heads; its length is odd."""
    content = {**BACKBONE, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    batch, result = pack(documents(range(2, 8))), folder / f"shared-{size}.safetensors"

    def work(ranks) -> None:
        ranks = ranks.sharing(size)
        model = build_backbone(BackboneConfig(config=content), VOCABULARY.size, seed=5)
        own = batch if ranks.sequence is None else cut(batch, ranks.sequence)
        parts = weighted_loss(model, own, torch.ones(4), VOCABULARY, ranks.sequence)
        parts["next_token"].total.backward()
        found = {name: ranks.sum(parameter.grad) for name, parameter in model.named_parameters()}
        for name, term in parts.items():
            found |= {f"{name}.total": ranks.sum(term.total.detach().double()), f"{name}.count": ranks.sum(term.count.double())}
        if ranks.rank == 0:
            save_file(found, result)

    return {"codes": launch(size, work), "file": str(result), "tokens": batch.input_ids.numel()}


def staged_finetuning(folder: Path) -> dict:
    """On the text model: the new rows alone, then with adapters, under ZeRO 3; then a run that goes on with both."""
    each = [{"name": "rows", "adapter": None, "steps": 2}, {"name": "both", "steps": 3}]
    content = {
        "backbone": {"path": str(text_model(folder))},
        "new_rows": True,
        "adapter": {"rank": 2},
        "schedule": {"warmup_steps": 0},
    }
    config = parse_config(settings(folder, "both-stages", 3, **content, stages=each), TrainingConfig, "stages")
    train = recipe()
    codes = [launch(2, lambda ranks: max(train(stage, ranks) for stage in stages(config)))]
    saved = [folder / "both-stages" / "rows" / "checkpoints" / "step-00000002"]
    saved.append(folder / "both-stages" / "both" / "checkpoints" / "step-00000003")
    more = {"from": str(saved[-1]), "new_rows": True, "schedule": {"warmup_steps": 0}, "steps": 3}
    config = parse_config(settings(folder, "more", 0, **more), TrainingConfig, "more")
    codes.append(launch(1, lambda ranks: train(config, ranks)))
    saved.append(folder / "more" / "checkpoints" / "step-00000003")
    return {"codes": codes, "saved": list(map(str, saved)), "files": [sorted(os.listdir(checkpoint)) for checkpoint in saved]}


def watched_run(folder: Path, how: str) -> dict:
    """Rank 1 dies, or does not come back, in step 3 of a run on two ranks: exit codes, what rank 0 said, seconds it took."""
    stall = {"dies": 60.0, "stalls": 4.0}[how]
    config = pretrain(folder, f"watched-{how}", 0, run={"stall_timeout": stall, "save_every": 100}, steps=99,
                      loader={"packs_per_step": 2})  # fmt: skip
    train, log = recipe(), folder / f"watched-{how}.log"

    def work(ranks) -> int:
        watch.DEAD_AFTER = 5.0
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        step = trainer.train_step

        def failing(engine, batches, at, *rest):
            if ranks.rank and at == 3:
                if how == "dies":
                    time.sleep(3)  # until it has been seen alive
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(1000)
            return step(engine, batches, at, *rest)

        trainer.train_step = failing
        if not ranks.rank and how == "dies":  # a collective that does not notice
            trainer.train_step = lambda *given: time.sleep(1000) if given[2] == 3 else step(*given)
        return train(config, ranks)

    start = time.monotonic()
    codes = launch(2, work)
    return {"codes": codes, "said": log.read_text(), "seconds": time.monotonic() - start}


def late_end(folder: Path) -> dict:
    """Rank 1 is busy for seconds behind its last step, so busy that its watch does not beat meanwhile: exit codes."""

    def work(ranks) -> None:
        watch.BEAT = 4.0 if ranks.rank else 0.2
        with watched(ranks, 60.0):
            time.sleep(3.0 * ranks.rank)

    return {"codes": launch(2, work)}


def rehearsal(folder: Path, path: Path) -> dict:
    """A dry run of a recipe for GPUs on two ranks, with a tiny model of the class that it names, on tiny data."""
    import feature_ranks

    content = read_yaml(path)
    kind = "qwen3" if "Qwen" in content["backbone"]["path"] else "llama"
    tiny, rows = folder / f"tiny-{path.stem}", VOCABULARY.size if path.stem == "h100_nodes" else VOCABULARY.text_size
    config = BackboneConfig(
        config={**BACKBONE, "model_type": kind, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 2}
    )
    build_backbone(config, rows, seed=0).save_pretrained(tiny)
    content |= {"output": str(folder / f"run-{path.stem}"), "data": [{"path": str(folder / "data")}]}
    content |= dict.fromkeys(("text_tokenizer", "speech_tokenizer", "image_tokenizer"))
    content["run"]["trackers"] = []
    content["loader"] |= {"pack_tokens": 48, "sequence_parallel": min(2, content["loader"].get("sequence_parallel", 1))}
    content["backbone"]["path"] = str(tiny)
    if "features" in content:
        content["features"] = feature_ranks.features(folder)
    config = parse_config(content, TrainingConfig, path.name)
    train, log = recipe(), folder / f"{path.stem}.log"

    def work(ranks) -> int:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 1)
        return rehearse(config, ranks, train)

    codes = launch(2, work)
    left = [entry.name for entry in folder.iterdir() if entry.name.startswith(f"run-{path.stem}")]
    return {"codes": codes, "left": left, "said": log.read_text()}


def one_modality_each(folder: Path) -> dict:
    """Under ZeRO 3, rank 0 has text alone, then speech alone, rank 1 speech, then pictures; and documents of one token."""
    config = pretrain(folder, "lonely", 3, loader={"packs_per_step": 2})
    result = folder / "lonely.json"

    def of(modality: str) -> TokenDocument:
        first, end = VOCABULARY.ranges()[modality]
        ids = np.arange(first, min(end, first + 7), dtype=np.uint16)
        return TokenDocument(f"{modality} alone", "test", ids)

    def work(ranks) -> None:
        model = build_backbone(config.backbone, VOCABULARY.size, seed=5)
        engine = build_engine(model, VOCABULARY, config, ranks)
        one = TokenDocument("one token", "test", np.array([3], dtype=np.uint16))
        seen = []
        for step, modality in enumerate(("text", "speech") if ranks.rank == 0 else ("speech", "image"), start=1):
            done = train_step(engine, [pack([one, of(modality), one])], step, config, ranks)
            seen.append(sorted(by_modality(done, "nll")))
        if ranks.rank == 0:
            result.write_text(json.dumps(seen))

    return {"codes": launch(2, work), "seen": json.loads(result.read_text())}


def staged(folder: Path) -> dict:
    """Two stages of a pretraining run through the recipe, twice: in the first the layers rest."""
    first = {"name": "rows", "optimizer": {"parts": {"layers": 0}}, "steps": 2, "schedule": {"warmup_steps": 0}}
    each = [first, {"name": "all", "steps": 3, "optimizer": {"learning_rate": 0.001}}]
    config = pretrain(folder, "staged", 0, stages=each)
    train = recipe()
    codes = [launch(1, lambda ranks: max(train(stage, ranks) for stage in stages(config))), len(list(stages(config)))]
    return {"codes": codes, "run": str(config.output)}


def spoil_loss(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
    return output * float("nan")


def spoil_gradient(_module, _inputs, output: torch.Tensor) -> None:
    output.register_hook(lambda gradient: gradient * float("inf"))


def stopped(folder: Path, stage: int, where: str) -> dict:
    """A step whose loss (or gradient alone) is not finite on rank 1: exit codes, messages, and whether a weight changed."""
    config = pretrain(folder, "stopped", stage, loader={"packs_per_step": 2})
    log = folder / f"stopped-{stage}-{where}"

    def work(ranks) -> None:
        model = build_backbone(config.backbone, VOCABULARY.size, seed=5)
        engine = build_engine(model, VOCABULARY, config, ranks)
        before = weights(engine)
        if ranks.rank == 1:
            model.model.norm.register_forward_hook(spoil_loss if where == "loss" else spoil_gradient)
        try:
            train_step(engine, [pack(documents(range(ranks.rank * 3, ranks.rank * 3 + 2)))], 1, config, ranks)
        except MmptError as problem:
            after = weights(engine)
            unchanged = all(torch.equal(before[name], after[name]) for name in before)
            Path(f"{log}-{ranks.rank}").write_text(json.dumps({"message": str(problem), "unchanged": unchanged}))

    codes = launch(2, work)
    return {"codes": codes, "ranks": [json.loads(Path(f"{log}-{rank}").read_text()) for rank in range(2)]}


def finetune(folder: Path) -> dict:
    """Adapters with dropout, straight and interrupted, on the last checkpoint of a pretraining run."""
    base = pretrain(folder, "straight-0-0", 0)
    if not base.output.exists():  # where `resume` has not made it
        launch(2, lambda ranks: recipe()(base, ranks))
    train, runs = recipe(), []
    for name in ("adapters", "adapters-broken"):
        content = settings(
            folder,
            name,
            1,
            **{"from": str(base.output / "checkpoints" / "step-00000006"), "adapter": {"rank": 2, "dropout": 0.2}, "steps": 4},
        )
        runs.append(parse_config(content, TrainingConfig, name))
    codes = [launch(2, lambda ranks: train(runs[0], ranks)), launch(2, killed_while_saving(4, train, runs[1]))]
    codes.append(launch(2, lambda ranks: train(runs[1], ranks)))
    last = [run.output / "checkpoints" / "step-00000004" / "adapter" / "adapter_model.safetensors" for run in runs]
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "same": last[0].read_bytes() == last[1].read_bytes()}


def text_model(folder: Path) -> Path:
    path = folder / "text-model"
    if not path.exists():
        content = BackboneConfig(config={**BACKBONE, "tie_word_embeddings": False})
        build_backbone(content, VOCABULARY.text_size + 3, seed=9).save_pretrained(path)
    return path


def new_rows(folder: Path, stage: int) -> dict:
    """Adapters and new rows on a plain text model, whose table is longer than its tokenizer; straight and interrupted."""
    train, text, runs = recipe(), text_model(folder), []
    for name in (f"rows-{stage}", f"rows-broken-{stage}"):
        changes = {
            "backbone": {"path": str(text), "row_init": "convex_hull"},
            "new_rows": True,
            "adapter": {"rank": 2},
            "steps": 4,
        }
        runs.append(parse_config(settings(folder, name, stage, **changes), TrainingConfig, name))
    codes = [launch(2, lambda ranks: train(runs[0], ranks)), launch(2, killed_while_saving(4, train, runs[1]))]
    codes.append(launch(2, lambda ranks: train(runs[1], ranks)))
    last = [run.output / "checkpoints" / "step-00000004" for run in runs]
    same = same_bits(*last, "new_rows.safetensors", "adapter/adapter_model.safetensors", "training/optimizer*.safetensors")
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "same": same, "text": str(text), "last": str(last[1])}


SCENARIOS = {
    **{f"resume-{stage}": partial(resume, stage=stage) for stage in (0, 1, 2, 3)},
    "resume-bf16": partial(resume, stage=2, deepspeed=half(2)),
    "resume-bf16-3": partial(resume, stage=3, deepspeed=half(3)),
    "resume-muon": partial(resume, stage=0, optimizer={"kind": "muon", "learning_rate": 0.02}),
    "resume-adafactor": partial(resume, stage=0, optimizer={"kind": "adafactor", "learning_rate": 0.1}, run={"keep": 2}),
    **{
        f"muon-step-{size}": partial(
            one_step, size=size, stage=0, optimizer={"kind": "muon", "learning_rate": 0.02, "gradient_clip": 0.05}
        )
        for size in (1, 2)
    },
    "elastic": elastic,
    **{f"2-1-2-{stage}": partial(elastic, changes=((2, stage, 4), (1, stage, 8), (2, stage, 12))) for stage in (1, 3)},
    "finetune": finetune,
    **{f"new-rows-{stage}": partial(new_rows, stage=stage) for stage in (1, 3)},
    **{f"step-{size}-{stage}": partial(one_step, size=size, stage=stage) for size in (1, 2) for stage in (0, 1, 2, 3)},
    **{f"shared-step-{stage}": partial(one_step, size=2, stage=stage, shared=2) for stage in (0, 1, 3)},
    **{
        f"waiting-{stage}": partial(
            one_step,
            size=2,
            stage=stage,
            deepspeed={"zero_optimization": {"overlap_comm": False, "reduce_bucket_size": 500_000_000}},
        )
        for stage in (1, 2, 3)
    },
    **{f"checkpointed-{stage}": partial(one_step, size=2, stage=stage, activation_checkpointing=True) for stage in (0, 3)},
    **{f"experts-{size}": partial(one_step, size=size, stage=0, backbone={"config": EXPERTS}) for size in (1, 2)},
    "lonely": one_modality_each,
    **{f"rehearsal-{path.stem}": partial(rehearsal, path=path) for path in sorted((ROOT / "recipes").glob("h100*.yaml"))},
    "staged-finetuning": staged_finetuning,
    **{how: partial(watched_run, how=how) for how in ("dies", "stalls")},
    "late": late_end,
    "stages": staged,
    **{f"shared-{size}": partial(shared_gradients, size=size) for size in (1, 2, 4)},
    **{
        f"stopped-{stage}-{where}": partial(stopped, stage=stage, where=where)
        for stage in (0, 1, 3)
        for where in ("loss", "gradient")
    },
}


def prepare(folder: Path) -> None:
    write_shards(folder / "data")
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
