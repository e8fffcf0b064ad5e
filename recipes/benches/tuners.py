"""What each tuner costs and gives: weights that learn, memory, speed, and the loss after as many steps, of a model of yours.

    OMP_NUM_THREADS=1 python recipes/benches/tuners.py MODEL TOKENS [--steps 20]

MODEL: a text model of transformers, by folder or name; TOKENS: token shards in its vocabulary; the loss is that of the last
quarter of the steps. Every kind of `adapter` with its own defaults, and all weights beside them, at the rate that --rate gives
(LoRA's usual 1e-4; all weights take a tenth). Rows of tokens that the model has not learn in all. Memory is what a rank keeps of
weights, gradients and optimizer, counted; speed is tokens a second of CPU time. Writes recipes/results/tuners.json.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")
import torch

from mmpt.config import parse_config
from mmpt.data.shards.read import TokenShards
from mmpt.errors import MmptError
from mmpt.model.adapters import Adapter
from mmpt.results import Figure, report
from mmpt.training.base import open_model
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World, world
from mmpt.training.engine import build_engine
from mmpt.training.memory import GIB, counts, memory
from mmpt.training.sources import open_loader
from mmpt.training.trainer import train_step

ROOT = Path(__file__).resolve().parents[2]
ALL = "all weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pack-tokens", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--kinds", nargs="*", default=[ALL, *Adapter.names()])
    given = parser.parse_args()
    torch.set_num_threads(1)
    shards, figures = TokenShards(given.tokens), []
    with tempfile.TemporaryDirectory() as folder, world() as ranks:
        for kind in given.kinds:
            try:
                figures += list(tuner(kind, given, shards, Path(folder) / kind.replace(" ", "_"), ranks))
            except MmptError as problem:  # a tuner whose sizes do not divide this model's
                print(f"{kind}: {problem}", file=sys.stderr)
    passed = report(figures, ROOT / "recipes" / "results" / "tuners.json", ["peft"], {"model": Path(given.model).name})
    sys.exit(0 if passed else 1)


def tuner(kind: str, given: argparse.Namespace, shards: TokenShards, out: Path, ranks: World) -> Iterator[Figure]:
    adapted = {} if kind == ALL else {"adapter": {"kind": kind}, "new_rows": True}
    content = {
        "output": str(out), "data": [{"path": str(given.tokens)}], "backbone": {"path": given.model, "row_init": "mean"},
        "text_tokenizer": given.model, "steps": 10 * given.steps, "precision": "float32", "schedule": "constant",
        "loader": {"pack_tokens": given.pack_tokens, "packs_per_step": 1, "workers": 0}, **adapted,
        "optimizer": {"learning_rate": given.rate * (0.1 if kind == ALL else 1.0), "weight_decay": 0.0},
        "run": {"seed": 0},
    }  # fmt: skip
    config = parse_config(content, TrainingConfig, "bench")
    model = open_model(config, [shards], None, ranks)
    learned, kept = sum(counts(model, config).trained.values()), memory(model, config, 1).kept
    engine = build_engine(model, shards.vocabulary, config, ranks)
    losses, tokens, spent = [], 0.0, 0.0
    for step, packs in zip(range(1, given.steps + 1), open_loader(config, [shards]), strict=False):
        begun = time.process_time()
        done = train_step(engine, packs, step, config, ranks)
        if step > 2:  # what is made in the first steps stays
            tokens, spent = tokens + done.amounts["tokens"], spent + time.process_time() - begun
        losses.append(done.loss)
    yield Figure(f"{kind}: million weights that learn", learned / 1e6)
    yield Figure(f"{kind}: GiB kept", kept / GIB)
    yield Figure(f"{kind}: tokens/s", tokens / spent)
    yield Figure(f"{kind}: loss of the last quarter", statistics.mean(losses[-max(1, given.steps // 4) :]))


if __name__ == "__main__":
    main()
