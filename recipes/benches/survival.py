"""What a run survives: kills, another number of ranks, packs cut among ranks, damaged checkpoints; and how much room a
checkpoint takes.

    OMP_NUM_THREADS=1 python recipes/benches/survival.py [RUNS]

Everything goes through the recipes as commands, on two ranks of this machine where the figure says so. Writes
recipes/results/training_survival.json.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import CheckpointError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import decode, next_token_terms
from mmpt.model.loading import FORMAT
from mmpt.model.sequence import cut
from mmpt.results import Figure, report
from mmpt.storage import check_folder, write_bytes
from mmpt.training.checkpoint import newest_checkpoint
from mmpt.training.distributed import world
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = Vocabulary(300, "bench", image_codes=64, codes_per_image=8, speech_codes=64, speech_rate=12.5)
IDS = np.setdiff1d(np.arange(VOCABULARY.size), VOCABULARY.special("<|feature|>")).astype(np.uint16)
BACKBONE = {"model_type": "qwen3", "hidden_size": 60, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 6,
            "num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": False}  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
KILLS, FLIPS, SAVING_SHARE = 40, 200, 3
MEASURED = ("step", "loss", "nll", "accuracy", "learning_rate", "gradient_norm", "fill")


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/survival")
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    write_shards(runs / "tokens")
    parts: tuple[Callable[[Path], Iterator[Figure]], ...] = (resumed, elastic, shared, killed, flipped, room)
    figures = [figure for part in parts for figure in part(runs)]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "training_survival.json") else 1)


def write_shards(folder: Path) -> None:
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number in range(400):
            ids = draw.choice(IDS, draw.integers(5, 120))
            writer.write(TokenDocument(f"document-{number}", "bench", ids))


def settings(runs: Path, name: str, stage: int, **changes) -> Path:
    """The YAML file of a run in `runs`/`name`."""
    content = {
        "output": str(runs / name), "data": [{"path": str(runs / "tokens")}], "backbone": {"config": BACKBONE},
        "steps": 30, "loader": {"pack_tokens": 256, "packs_per_step": 6}, "optimizer": {"learning_rate": 0.003},
        "schedule": "constant", "run": {"save_every": 5, "keep": 3, "log_every": 1}, "precision": "float32",
        "deepspeed": {"zero_optimization": {"stage": stage}}, **changes,
    }  # fmt: skip
    write_bytes(runs / f"{name}.yaml", yaml.safe_dump(content).encode())
    return runs / f"{name}.yaml"


def start(config: Path, ranks: int = 1, *overrides: str) -> subprocess.Popen:
    launcher = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    launcher += [] if ranks == 1 else ["--master-port", str(random.randint(20_000, 32_000))]
    with open(config.with_suffix(".log"), "ab") as log:
        command = [*launcher, str(ROOT / "recipes" / "train.py"), str(config), *overrides]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)


def finish(config: Path, ranks: int = 1, *overrides: str) -> None:
    if start(config, ranks, *overrides).wait():
        sys.exit(f"{config}: the run failed\n{config.with_suffix('.log').read_text()[-3000:]}")


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for every rank, and for what started them."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lines(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until_step(process: subprocess.Popen, run: Path, step: int) -> None:
    while process.poll() is None and (not (found := lines_so_far(run)) or found[-1]["step"] < step):
        time.sleep(0.01)


def lines_so_far(run: Path) -> list[dict]:
    try:
        return lines(run)
    except ValueError:  # a line is being written
        return []


def resumed(runs: Path) -> Iterator[Figure]:
    """Under each ZeRO stage on two ranks: straight, against killed in step 13 or so and started again."""
    for stage in (0, 1, 2, 3):
        straight, broken = (settings(runs, f"{kind}-{stage}", stage) for kind in ("straight", "broken"))
        finish(straight, 2)
        process = start(broken, 2)
        until_step(process, runs / f"broken-{stage}", 13)
        kill(process)
        finish(broken, 2)
        ours, theirs = (
            [[line[name] for name in MEASURED] for line in lines(runs / f"{kind}-{stage}")] for kind in ("straight", "broken")
        )
        different = sum(one != other for one, other in zip(ours, theirs, strict=True))
        yield Figure(f"steps that differ after kill -9 and resume, ZeRO {stage}", different, 0, at_most=True)
        last = [runs / f"{kind}-{stage}" / "checkpoints" / "step-00000030" for kind in ("straight", "broken")]
        files = [name for name in check_folder(last[0], FORMAT)["files"] if name != "recipe.yaml"]
        unequal = sum((last[0] / name).read_bytes() != (last[1] / name).read_bytes() for name in files)
        yield Figure(f"files of the last checkpoint that differ, ZeRO {stage}", unequal, 0, at_most=True)


def elastic(runs: Path) -> Iterator[Figure]:
    """Straight on 2 ranks under stage 2, against 2 ranks, then 1, then 3, the latter two under stage 3."""
    finish(settings(runs, "elastic-straight", 2), 2)
    config = settings(runs, "elastic", 2)
    for ranks, stage, until in ((2, 2, 5), (1, 3, 10), (3, 3, 30)):
        finish(config, ranks, f"steps={until}", f"deepspeed.zero_optimization.stage={stage}")
    pairs = zip(lines(runs / "elastic-straight")[10:], lines(runs / "elastic")[10:], strict=True)
    largest = max(abs(one["loss"] - other["loss"]) for one, other in pairs)
    yield Figure("largest difference of 20 losses after 2, 1, 3 ranks and ZeRO 2, 3", largest, 1e-6, at_most=True)


def killed(runs: Path) -> Iterator[Figure]:
    """kill -9 at random moments, every third as soon as a checkpoint is being written; the same command goes on each time."""
    draw, run = random.Random(0), runs / "killed"
    config = settings(runs, "killed", 0, steps=100_000, run={"save_every": 2, "keep": 3, "log_every": 1})
    inside = wrong = lost = 0
    for number in range(KILLS):
        before = lines_so_far(run)[-1]["step"] if lines_so_far(run) else 0
        process = start(config)
        until_step(process, run, before + draw.randint(1, 6))
        if number % SAVING_SHARE == 0:
            while process.poll() is None and not list((run / "checkpoints").glob(".step-*.tmp")):
                time.sleep(0.0002)
        else:
            time.sleep(draw.uniform(0, 0.3))
        wrong += process.poll() is not None
        kill(process)
        inside += bool(list((run / "checkpoints").glob(".step-*.tmp")))
        for checkpoint in (run / "checkpoints").glob("step-*"):
            try:
                check_folder(checkpoint, FORMAT)
            except CheckpointError:
                lost += 1
    yield Figure("kills at random moments", KILLS)
    yield Figure("of those while a checkpoint was being written", inside, KILLS // SAVING_SHARE)
    yield Figure("starts that did not go on", wrong, 0, at_most=True)
    yield Figure("files under a final name that fail their hash", lost, 0, at_most=True)
    steps = [line["step"] for line in lines_so_far(run)]
    yield Figure("steps missing or twice in the log of that run", len(steps) - len(set(steps)) + steps[-1] - len(steps), 0, True)


def flipped(runs: Path) -> Iterator[Figure]:
    """One bit of one byte of any file of the newest checkpoint; the one before it must be taken."""
    draw = random.Random(1)
    run = runs / "straight-0"
    *_, before, newest = sorted((run / "checkpoints").glob("step-*"))
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    undetected = 0
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), world() as ranks:  # each finding is printed
        for _ in range(FLIPS):
            path = draw.choice(files)
            place, content = draw.randrange(path.stat().st_size), path.read_bytes()
            damaged = bytearray(content)
            damaged[place] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            undetected += newest_checkpoint(run, ranks) != before
            path.write_bytes(content)
        assert newest_checkpoint(run, ranks) == newest
    yield Figure("random bit flips in a checkpoint", FLIPS)
    yield Figure("flips not detected, or the checkpoint before not taken", undetected, 0, at_most=True)


def shared(runs: Path) -> Iterator[Figure]:
    """A pack with a document across the cut, whole and shared by two ranks: loss and gradients."""
    found = []
    for ranks in (1, 2):
        path = runs / f"shared-{ranks}.safetensors"
        torch.multiprocessing.spawn(gradients, (ranks, random.randint(20_000, 32_000), path), nprocs=ranks)
        found.append(load_file(path))
    whole, cut_up = found
    largest = max(float((whole[name] - cut_up[name]).abs().max() / whole[name].abs().max().clamp_min(1)) for name in whole)
    yield Figure("largest difference of loss and gradients, a pack shared by 2 ranks", largest, 1e-6, at_most=True)


def gradients(rank: int, ranks: int, port: int, path: Path) -> None:
    """Write the loss and all gradients of one pack, summed over the ranks that share it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    draw = np.random.default_rng(3)
    documents = [draw.choice(IDS, length) for length in (101, 300, 77, 50)]
    batch = pack([TokenDocument(str(number), "bench", ids) for number, ids in enumerate(documents)])
    with world() as own:
        own = own.sharing(ranks)
        model = build_backbone(BackboneConfig(config=BACKBONE), VOCABULARY.size, seed=0)
        given = batch if own.sequence is None else cut(batch, own.sequence)
        terms = next_token_terms(model, given, decode(model, given, own.sequence), torch.ones(4), VOCABULARY)
        loss = terms["next_token"].total / batch.weights.sum()
        loss.backward()
        found = {name: own.sum(parameter.grad) for name, parameter in model.named_parameters()}
        found["loss"] = own.sum(loss.detach().double().reshape(1))
        if rank == 0:
            save_file(found, path)


def room(runs: Path) -> Iterator[Figure]:
    """Bytes on disk of a checkpoint of adapters and new rows, against the bytes of what learns and of its optimizer's state."""
    text = runs / "text-model"
    content = {**BACKBONE, "hidden_size": 480, "intermediate_size": 960, "num_hidden_layers": 8, "head_dim": 80}
    build_backbone(BackboneConfig(config=content), VOCABULARY.text_size, seed=0).save_pretrained(text)
    changes = {"backbone": {"path": str(text)}, "new_rows": True, "adapter": {"rank": 16}, "steps": 2}
    finish(settings(runs, "room", 1, **changes))
    checkpoint = runs / "room" / "checkpoints" / "step-00000002"
    own = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_nlink == 1)
    learns = sum((checkpoint / name).stat().st_size for name in ("adapter/adapter_model.safetensors", "new_rows.safetensors"))
    state = sum(path.stat().st_size for path in (checkpoint / "training").glob("optimizer*.safetensors"))
    yield Figure("bytes on disk / bytes that learn and their state, adapters and new rows", own / (learns + state), 1.05, True)
    whole = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    yield Figure("the same, links to the frozen files counted as copies", whole / (learns + state))


if __name__ == "__main__":
    main()
