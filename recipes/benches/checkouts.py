"""The CPU seconds of a step of recipes/train.py in two checkouts of the code, a step of each in turn.

    OMP_NUM_THREADS=1 python recipes/benches/checkouts.py BEFORE AFTER

Each checkout trains the same tiny decoder on the same data in a process of its own, log lines and all; a step runs from one
update to the next. The order of each pair is drawn, and the processes are new in each of five rounds: where its memory lies
makes a process a percent faster or slower. Writes recipes/results/checkouts.json.
"""

import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS, PAIRS, WARMUP = 5, 40, 5
BACKBONE = {"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}  # fmt: skip


def main() -> None:
    from mmpt.results import Figure, report

    before, after = (Path(one).resolve() for one in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        draw, ratios, seconds = random.Random(0), [], []
        for turn in range(ROUNDS):
            workers = [Worker(one, Path(folder), f"{name}-{turn}") for one, name in ((before, "before"), (after, "after"))]
            for number in range(WARMUP + PAIRS):
                found = [0.0, 0.0]
                for which in draw.sample((0, 1), 2):
                    found[which] = workers[which].step()
                if number >= WARMUP:
                    ratios.append(found[1] / found[0])
                    seconds.append(found)
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
    means = [statistics.fmean(one[which] for one in seconds) for which in (0, 1)]
    draws = [statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000)]
    low, high = (statistics.quantiles(draws, n=40)[place] for place in (0, -1))
    figures = [
        Figure("pairs of steps", len(ratios)),
        Figure("CPU seconds of a step, before", means[0]),
        Figure("CPU seconds of a step, after / before, median", statistics.median(ratios), 1.01, at_most=True),
        Figure("95 % of medians of bootstrap samples, from", low),
        Figure("95 % of medians of bootstrap samples, to", high),
        Figure("CPU seconds of a step, after / before, means", means[1] / means[0]),
    ]
    root = Path(__file__).resolve().parents[2]
    sys.exit(0 if report(figures, root / "recipes" / "results" / "checkouts.json", []) else 1)


class Worker:
    """A checkout that trains, a step at a time."""

    def __init__(self, checkout: Path, folder: Path, name: str) -> None:
        command = [sys.executable, __file__, "--work", str(checkout), str(folder), name]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        with open(folder / f"{name}.log", "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder
            )
        self._said()

    def step(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._said())

    def _said(self) -> str:
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if line.startswith("CPU ")).split()[1]


def write_data(folder: Path) -> None:
    import numpy as np

    from mmpt.data.shards.tokens import TokenDocument
    from mmpt.data.shards.write import TokenShardWriter
    from mmpt.vocabulary import Vocabulary

    vocabulary = Vocabulary(1000, "bench", image_codes=256, codes_per_image=8, speech_codes=256, speech_rate=12.5)
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder / "tokens", vocabulary=vocabulary, built={}) as writer:
        for number in range(2000):
            ids = draw.integers(0, vocabulary.text_size, draw.integers(20, 200)).astype(np.uint16)
            writer.write(TokenDocument(f"document-{number}", "bench", ids))


def work(checkout: Path, folder: Path, name: str) -> None:
    """Train in this process, and wait for a line before each step."""
    from mmpt.config import parse_config
    from mmpt.training import trainer
    from mmpt.training.config import TrainingConfig
    from mmpt.training.distributed import world

    specification = importlib.util.spec_from_file_location("train", checkout / "recipes" / "train.py")
    assert specification is not None and specification.loader is not None
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    step, began = trainer.train_step, time.process_time()

    def waiting(*given):
        nonlocal began
        print(f"CPU {time.process_time() - began}", flush=True)
        sys.stdin.readline()
        began = time.process_time()
        return step(*given)

    trainer.train_step = waiting
    content = {
        "output": str(folder / name), "data": [{"path": str(folder / "tokens")}], "backbone": {"config": BACKBONE},
        "steps": 100_000, "loader": {"pack_tokens": 256, "packs_per_step": 2}, "optimizer": {"learning_rate": 1e-3},
        "schedule": "constant", "precision": "float32", "run": {"log_every": 10, "save_every": 100_000},
    }  # fmt: skip
    with world() as ranks:
        recipe.train(parse_config(content, TrainingConfig, json.dumps(name)), ranks)


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(*map(Path, sys.argv[2:4]), sys.argv[4])
    else:
        main()
