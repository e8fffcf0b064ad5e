"""Scenarios of runs that are evaluated, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "helpers"), str(ROOT / "inference")]
import feature_ranks  # noqa: E402
import tiny  # noqa: E402
from launching import facts, import_once, killed_while_saving, launch, recipe, same_bits  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_runs import BACKBONE, IDS, VOCABULARY, pretrain, settings, write_shards  # noqa: E402

from mmpt.config import parse_config  # noqa: E402
from mmpt.data.shards.tokens import TokenDocument  # noqa: E402
from mmpt.data.shards.write import TokenShardWriter  # noqa: E402
from mmpt.media import encode_png  # noqa: E402
from mmpt.tokenizers.multimodal import MultimodalTokenizer  # noqa: E402
from mmpt.training.config import TrainingConfig  # noqa: E402

AWAY = {"offload_optimizer": {"device": "cpu"}}
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
    plain, best = pretrain(folder, f"plain-{name}", stage, **changes), {"figure": "odd/text", "better": "more"}
    runs = [plain] + [
        pretrain(folder, f"{kind}-{name}", stage, evaluate=asked(folder, best=best), **changes) for kind in ("straight", "broken")
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


def offloaded(folder: Path, stage: int, half: bool = False) -> dict:
    """The optimizer's state in main memory: beside it, and killed as it saves."""
    train, runs = recipe(), []
    for kind, more in (("beside", {}), ("away", AWAY), ("away-broken", AWAY)):
        section = {"zero_optimization": {"stage": stage, **more}, "bf16": {"enabled": half}}
        runs.append(pretrain(folder, f"offloaded-{kind}-{stage}-{half}", stage, deepspeed=section))
    codes = [launch(2, lambda ranks, run=run: train(run, ranks)) for run in runs[:2]]
    codes += [launch(2, killed_while_saving(4, train, runs[2])), launch(2, lambda ranks: train(runs[2], ranks))]
    last = [run.output / "checkpoints" / "step-00000006" for run in runs]
    return {
        "codes": codes,
        "facts": [facts(run.output) for run in runs],
        "weights": same_bits(*last[:2], *FILES[:1]),
        "resumed": same_bits(*last[1:], *FILES),
    }


def recorded(folder: Path) -> dict:
    """A run with two of its steps under the profiler, and one that ends within them."""
    train, found = recipe(), {}
    for name, first, count in (("whole", 3, 2), ("short", 5, 20)):
        profile = {"from": first, "steps": count}
        run = pretrain(folder, f"recorded-{name}", 0, run={"profile": profile})
        plain = pretrain(folder, "recorded-plain", 0)
        codes = [launch(2, lambda ranks, run=run: train(run, ranks)) for run in (run, plain)]
        files = {path.name: path.stat().st_size for path in sorted((run.output / "profile").iterdir())}
        found[name] = {"codes": codes, "files": files, "same": facts(run.output) == facts(plain.output), "run": str(run.output)}
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


def tokenizers(folder: Path) -> dict[str, str]:
    """Tiny ones of random weights, and token shards of their vocabulary in `live` and `live-test`."""
    parts = folder / "tiny" / "parts"
    names = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")
    found = {name: str(parts / name) for name in names}
    if parts.exists():
        return found
    tiny.write_checkpoint(folder / "tiny")
    vocabulary = MultimodalTokenizer.load(*(parts / name for name in names)).vocabulary
    draw = np.random.default_rng(3)
    for name, count in (("live", 60), ("live-test", 9)):
        with TokenShardWriter(folder / name, vocabulary=vocabulary, built={}) as writer:
            for number in range(count):
                picture = vocabulary.encode_image(draw.integers(0, 16, 5))
                begin, end = (vocabulary.special(mark) for mark in ("<|begin|>", "<|end|>"))
                ids = [begin, *draw.integers(0, vocabulary.text_size, 6), *picture, end]
                writer.write(TokenDocument(f"{name}-{number}", name, np.array(ids, dtype=np.uint16)))
    return found


def suite(folder: Path) -> Path:
    """A loss, a task of lm-evaluation-harness, and a benchmark whose file is not there."""
    rows = [{"q": "the red", "choices": ["circle", "square"]}, {"q": "a blue", "choices": ["square", "circle"]}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "which", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{q}}",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
        "doc_to_choice": "choices", "doc_to_target": "0",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / "which.yaml").write_text(json.dumps(task))
    benchmarks = [
        {"name": "held out", "kind": "loss", "folder": str(folder / "live-test")},
        {"name": "which", "kind": "lm_eval", "tasks": ["which"], "include": str(folder / "tasks")},
        {"name": "gone", "kind": "pairs", "format": "story", "folder": str(folder / "gone.csv")},
    ]
    path = folder / "suite.yaml"
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    return path


def live(folder: Path, size: int, stage: int, adapter: bool = False) -> dict:
    """Samples and a suite on the model as it learns, against the same run without; samples as parts."""
    train, picture = recipe(), folder / "red.png"
    own = tokenizers(folder)
    picture.write_bytes(encode_png(PIL.Image.new("RGB", (20, 16), "red")))
    sampled = {"kind": "top_p", "temperature": 1.0}
    samples = [
        {"prompt": [{"text": "draw"}, {"text": "the red circle"}], "outputs": ["image"], "max_new_tokens": 20},
        {"prompt": [{"text": "describe"}, {"image": str(picture)}], "outputs": ["text"], "max_new_tokens": 9},
        {
            "prompt": [{"text": "say"}],
            "outputs": ["speech"],
            "max_new_tokens": 9,
            "speech": sampled,
        },
    ]
    evaluate = {
        "every": 2, "shards": {"test": str(folder / "live-test")}, "samples": samples, "suite": str(suite(folder)),
        "suite_every": 4, "best": {"figure": "test", "patience": 5},
    }  # fmt: skip
    changes = {**own, "data": [{"path": str(folder / "live")}], "run": {"keep": 9}}
    name, runs = f"live-{size}-{stage}-{adapter}", []
    for kind, more in (("plain", {}), ("live", {"evaluate": evaluate})):
        content = {**settings(folder, f"{name}-{kind}", stage, **changes, **more), "backbone": {"config": BACKBONE}}
        if adapter:
            base = str(folder / "live-1-0-False-plain" / "checkpoints" / "step-00000006")
            content = {**content, "from": base, "backbone": None, "adapter": {"rank": 2, "dropout": 0.3}}
        runs.append(parse_config(content, TrainingConfig, name))
    codes = [launch(size, lambda ranks, run=run: train(run, ranks)) for run in runs]
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "run": str(runs[1].output)}


def media(folder: Path, stage: int) -> dict:
    """Held-out pictures that enter as features, an odd number of them, on two ranks: with evaluations and without."""
    train, runs = recipe(), []
    for name, count in (("pictures", 24), ("pictures-test", 5)):
        if not (folder / name).exists():
            feature_ranks.write_pictures(folder / name, count)
    options = {"data": [{"path": str(folder / "pictures")}], "features": {"image": feature_ranks.features(folder)["image"]}}
    for name, more in (
        ("plain", {}),
        ("evaluated", {"evaluate": {"every": 3, "shards": {"test": str(folder / "pictures-test")}}}),
    ):
        content = settings(folder, f"media-{name}-{stage}", stage, loader={"pack_tokens": 20}, **options, **more)
        runs.append(parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, name))
    codes = [launch(2, lambda ranks, run=run: train(run, ranks)) for run in runs]
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "evaluations": evaluations(runs[1].output)}


def refused(folder: Path) -> dict:
    """Exit code and what is said of sections that cannot work, before the first step."""
    train, own, said = recipe(), tokenizers(folder), {}
    sample = {"prompt": [{"text": "a"}]}
    cases = {
        "no tokenizer": (0, {}, {"samples": [sample]}),
        "learned": (0, {**own}, {"shards": {"test": str(folder / "live")}}),
        "other vocabulary": (0, {**own}, {"shards": {"test": str(folder / "few")}}),
        "no picture": (0, {**own}, {"samples": [{"prompt": [{"image": "gone.png"}]}]}),
        "no chat": (0, {**own}, {"samples": [{**sample, "chat": True}]}),
    }
    for number, (name, (stage, parts, evaluate)) in enumerate(cases.items()):
        content = settings(folder, f"refused-{number}", stage, **parts, data=[{"path": str(folder / "live")}], evaluate=evaluate)
        run = parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, name)

        def work(ranks, run=run, log=folder / f"refused-{number}.log"):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY), 2)
            return train(run, ranks)

        said[name] = (launch(1, work), (folder / f"refused-{number}.log").read_text(), evaluations(run.output))
    return said


SCENARIOS = {
    "live-1": partial(live, size=1, stage=0),
    "live-2": partial(live, size=2, stage=1),
    "live-3": partial(live, size=2, stage=3),
    "live-adapter-3": partial(live, size=2, stage=3, adapter=True),
    "live-adapter": partial(live, size=2, stage=0, adapter=True),
    "refused": refused,
    **{f"media-{stage}": partial(media, stage=stage) for stage in (0, 3)},
    **{f"stage-{stage}": partial(compared, stage=stage) for stage in (0, 1, 2, 3)},
    "alone": partial(compared, stage=0, size=1),
    "shared": partial(compared, stage=0, loader={"sequence_parallel": 2}, run={"keep": 2}),
    "patience": patience,
    "recorded": recorded,
    **{f"offloaded-{stage}": partial(offloaded, stage=stage) for stage in (1, 2, 3)},
    **{f"offloaded-bf16-{stage}": partial(offloaded, stage=stage, half=True) for stage in (2, 3)},
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
