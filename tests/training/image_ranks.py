"""Scenarios of training an image tokenizer on several ranks, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
from examples_in_memory import image_batches  # noqa: E402
from launching import import_once, launch  # noqa: E402
from scenarios import answer  # noqa: E402

from mmpt.config import parse_config  # noqa: E402
from mmpt.tokenizers.image.batches import ImageExample  # noqa: E402
from mmpt.tokenizers.image.config import ImageTokenizerConfig  # noqa: E402
from mmpt.tokenizers.image.stages import AlignConfig, AlignStage, QuantizeConfig, QuantizeStage  # noqa: E402
from mmpt.tokenizers.image.tokenizer import ImageTokenizer  # noqa: E402
from mmpt.training import fit as fits  # noqa: E402

CONTENT = {
    "side": 16,
    "tower": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    "qformer": {"queries": 4, "width": 16, "depth": 1, "heads": 2},
    "quantizer": {
        "kind": "ema",
        "codes": 16,
        "dim": 4,
        "normalize": True,
        "restart_every": 3,
        "restart_below": 0.5,
        "decay": 0.8,
    },
    "branches": {"depth": 1, "reverse_depth": 1},
    "decoder": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    "captions": {"words": 3, "buckets": 32, "width": 16, "depth": 1, "heads": 2, "dim": 8},
}
CONFIG = parse_config(CONTENT, ImageTokenizerConfig, "test")
CODEBOOK, QUERIES = "tokenizer.quantizer.codebook", "tokenizer.qformer.queries"


def examples() -> list[ImageExample]:
    """Captions repeat, so that right answers lie on several ranks."""
    draw = np.random.default_rng(0)
    pictures = [Image.fromarray(draw.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((16, 16)) for _ in range(21)]
    return [ImageExample(picture, f"number {i % 6}") for i, picture in enumerate(pictures)]


def train(folder: Path, size: int, spoil=None, stages=("align", "quantize")) -> list[int]:
    """Exit codes of the ranks."""
    plan = {"steps": 8, "batch_size": 8, "optimizer": {"learning_rate": 0.003}, "schedule": {"warmup_steps": 2},
            "run": {"save_every": 4, "log_every": 2}}  # fmt: skip
    settings = fits.FitConfig(**plan)

    def work(ranks) -> int:
        torch.manual_seed(0)
        model = ImageTokenizer(CONFIG)
        if spoil:
            spoil(ranks)
        kinds = {"align": AlignStage(model, AlignConfig(describe=0.2)), "quantize": None}
        for name in stages:
            stage = kinds[name] or QuantizeStage(model, QuantizeConfig())
            stopped = fits.fit(stage, image_batches(examples(), CONFIG, settings), settings, folder / name, ranks)
            if stopped:
                return stopped
        return 0

    return launch(size, work)


def dies_in_stage_two(ranks) -> None:
    """SIGKILL on every rank, as rank 0 writes the last checkpoint of stage II."""
    publish = fits.publish

    def dying(engine, step: int, run: Path, *arguments) -> None:
        if run.name == "quantize" and step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        publish(engine, step, run, *arguments)

    fits.publish = dying


def last(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(folder / stage / "checkpoints" / "step-00000008" / "model.safetensors")


def lines(folder: Path, stage: str) -> list[dict]:
    found = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in found]


def everything(folder: Path) -> dict:
    codes = {size: train(folder / f"ranks-{size}", size) for size in (1, 2)}
    broken = [train(folder / "broken", 2, dies_in_stage_two), train(folder / "broken", 2)]
    one, two, again = (last(folder / name, "quantize") for name in ("ranks-1", "ranks-2", "broken"))
    return {
        "codes": [codes[1], codes[2], *broken],
        "lines": {stage: [lines(folder / f"ranks-{size}", stage) for size in (1, 2)] for stage in ("align", "quantize")},
        "apart": {name: float((one[name].float() - two[name].float()).abs().max()) for name in one},
        "codebook": CODEBOOK,
        "same": all(torch.equal(value, again[name]) for name, value in two.items()),
        "moved": float((last(folder / "ranks-1", "align")[QUERIES] - one[QUERIES]).abs().max()),
    }  # fmt: skip


if __name__ == "__main__":
    answer({"everything": everything}, import_once)
