"""The main memory of two ranks while they load a model of yours: whole on each rank (ZeRO 2), weight by weight (ZeRO 3), and in
four bits (`adapter.base: nf4`, ZeRO 2).

    OMP_NUM_THREADS=1 python recipes/benches/loading.py MODEL

MODEL: a text model of transformers, by folder or name. LoRA, since only what rests makes the two alike: with all weights the
optimizer would hide the loading. Counted is memory that no file backs (RssAnon of /proc), each millisecond, from before the model
is opened to the end of the first step. On a CPU, bitsandbytes makes 32 numbers of each weight while it finds the nearest level of
four bits. Writes recipes/results/loading.json.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RANKS = 2
WAYS = {"whole": (2, "whole"), "weight by weight": (3, "whole"), "four bits": (2, "nf4")}


def main() -> None:
    from mmpt.results import Figure, report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # folder, one of WAYS
    given = parser.parse_args()
    if given.work:
        work(given.model, Path(given.work[0]), given.work[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), given.model)
        found = {way: launch(given.model, Path(folder), way) for way in WAYS}
    figures = [
        Figure(f"{way}: MB, {what}", max(rank[what] for rank in found[way]))
        for what in ("kept when the engine stands", "peak until then", "peak until the end of the first step")
        for way in WAYS
    ]
    one = found["weight by weight"][0]
    figures += [
        Figure("MB of all weights in float32", one["weights"]),
        Figure(
            "weight by weight: peak / (a rank's share + its largest weight)", one["peak until then"] / one["least"], 1.5, True
        ),
    ]
    passed = report(
        figures, ROOT / "recipes" / "results" / "loading.json", beside={"model": Path(given.model).name, "ranks": RANKS}
    )
    sys.exit(0 if passed else 1)


def write_data(folder: Path, model: str) -> None:
    from mmpt.data.shards.tokens import TokenDocument
    from mmpt.data.shards.write import TokenShardWriter
    from mmpt.tokenizers.multimodal import MultimodalTokenizer

    vocabulary = MultimodalTokenizer.load(model, None, None).vocabulary
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder / "tokens", vocabulary=vocabulary, built={}) as writer:
        for number in range(64):
            writer.write(TokenDocument(f"document-{number}", "bench", draw.integers(0, 1000, 60).astype(np.uint16)))


def launch(model: str, folder: Path, way: str) -> list[dict]:
    command = ["-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), "--master-port", "29641"]
    subprocess.run([sys.executable, *command, __file__, model, "--work", str(folder), way], check=True)
    return [json.loads((folder / f"{way}-{rank}.json").read_text()) for rank in range(RANKS)]


def work(model: str, folder: Path, way: str) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import torch

    from mmpt.config import parse_config
    from mmpt.training.base import open_model
    from mmpt.training.config import TrainingConfig
    from mmpt.training.distributed import world
    from mmpt.training.engine import build_engine
    from mmpt.training.sources import open_loader, open_sources
    from mmpt.training.trainer import train_step

    torch.set_num_threads(1)
    stage, base = WAYS[way]
    content = {
        "output": str(folder / way), "data": [{"path": str(folder / "tokens")}], "text_tokenizer": model,
        "backbone": {"path": model}, "new_rows": True, "adapter": {"rank": 8, "base": base}, "precision": "float32",
        "steps": 10, "optimizer": {"learning_rate": 1e-4}, "schedule": "constant",
        "loader": {"pack_tokens": 64, "packs_per_step": 2, "workers": 0},
        "deepspeed": {"zero_optimization": {"stage": stage}},
    }  # fmt: skip
    config = parse_config(content, TrainingConfig, "bench")
    with world() as ranks:
        sources, vocabulary = open_sources(config)
        watch = Memory()
        opened = open_model(config, sources, None, ranks)
        sizes = [4e-6 * parameter.numel() for parameter in opened.parameters()]
        engine = build_engine(opened, vocabulary, config, ranks)
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
        found = {"kept when the engine stands": watch.now(), "peak until then": watch.peak}
        packs = next(iter(open_loader(config, sources, rank=ranks.rank, world_size=ranks.size)))
        train_step(engine, packs, 1, config, ranks)
        found |= {"peak until the end of the first step": watch.peak, "weights": sum(sizes)}
        found |= {"least": sum(sizes) / ranks.size + max(sizes)}
        (folder / f"{way}-{ranks.rank}.json").write_text(json.dumps(found))


class Memory:
    """Megabytes of this process that no file backs, beyond those at the start: `now`, and the `peak` so far."""

    def __init__(self) -> None:
        self.peak, self._begin = 0.0, 0.0
        self._begin = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6 - self._begin

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.001)


if __name__ == "__main__":
    main()
