"""Scenarios of training a tokenizer on several ranks, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import json
import math
import os
import signal
import sys
import time
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / name) for name in ("helpers", "tokenizers"))]
from examples_in_memory import speech_batches  # noqa: E402
from launching import import_once, launch  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_whisper import TEXT, config, noise, save  # noqa: E402

from mmpt.data.shards.write import ShardWriter  # noqa: E402
from mmpt.document import Document, Speech  # noqa: E402
from mmpt.media import encode_flac  # noqa: E402
from mmpt.tokenizers.speech import tokenizer as speech_tokenizer  # noqa: E402
from mmpt.tokenizers.speech.batches import SpeechExample  # noqa: E402
from mmpt.tokenizers.speech.config import SpeechConfig  # noqa: E402
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer  # noqa: E402
from mmpt.tokenizers.text import train_text_tokenizer  # noqa: E402
from mmpt.training import fit as fits  # noqa: E402
from mmpt.training import trainer  # noqa: E402
from mmpt.training.specs import SpeechSpec  # noqa: E402
from mmpt.training.tokenizers import train_tokenizer  # noqa: E402

CONFIG = SpeechConfig(
    quantizer={"kind": "ema", "codes": 16, "dim": 4, "restart_every": 3, "restart_below": 0.5, "decay": 0.8},
    encoder={"dim": 16, "heads": 2, "conv_blocks": 1, "layers_pooled": 1, "layers_after": 1, "text_layers": 1, "dropout": 0.1},
    decoder={"dim": 16, "heads": 2, "layers": 1, "blocks": 1},
    mels=16,
    window=16,
    quantize_from=0.2,
)
STILL = CONFIG.model_copy(update={"encoder": CONFIG.encoder.model_copy(update={"dropout": 0.0})})  # drawn on each rank
CODEBOOK = "encoder.quantizer.codebook"
WORDS = ("do", "re", "mi", "fa")


def examples() -> list[SpeechExample]:
    draw = np.random.default_rng(0)
    made = []
    for _ in range(23):
        words = draw.choice(WORDS, draw.integers(1, 4))
        time = np.arange(4000) / 16_000
        tones = [0.3 * np.sin(2 * np.pi * 300 * 2 ** WORDS.index(word) * time) for word in words]
        made.append(SpeechExample(np.concatenate(tones).astype(np.float32), " ".join(words)))
    return made


def model(config: SpeechConfig) -> SpeechTokenizer:
    torch.manual_seed(0)
    return SpeechTokenizer(config, train_text_tokenizer([" ".join(WORDS)] * 4, 270))


def train(folder: Path, size: int, config: SpeechConfig = CONFIG, spoil=None, **changes) -> list[int]:
    """Exit codes of the ranks."""
    plan = {"steps": 12, "batch_size": 8, "optimizer": {"learning_rate": 0.003}, "schedule": {"warmup_steps": 2},
            "run": {"save_every": 4, "log_every": 3}}  # fmt: skip
    settings = fits.FitConfig(**{**plan, **changes})

    def work(ranks) -> int:
        if spoil:
            spoil(ranks)
        return fits.fit(model(config), speech_batches(examples(), config, settings), settings, folder, ranks)

    return launch(size, work)


def dies_while_saving(ranks) -> None:
    """SIGKILL on every rank, as rank 0 writes the checkpoint of step 8."""
    write, publish = fits._write, fits.publish

    def dying(tensors, config, folder: Path) -> None:
        write(tensors, config, folder)
        if folder.name.startswith(".step-00000008"):
            os.kill(os.getpid(), signal.SIGKILL)

    def waiting(engine, step: int, *arguments) -> None:
        publish(engine, step, *arguments)
        if ranks.rank and step == 8:
            run, begun = arguments[0], time.monotonic()
            while not [*run.glob("checkpoints/.step-00000008.*.tmp")] and time.monotonic() < begun + 60:
                time.sleep(0.02)  # rank 0 puts the checkpoint together once it has this rank's share
            os.kill(os.getpid(), signal.SIGKILL)

    fits._write, fits.publish = dying, waiting


def is_told_to_stop(ranks) -> None:
    """SIGTERM on rank 1 alone, in step 6."""
    train_step = trainer.train_step

    def told(engine, batches, step: int, config, world, stop: int):
        if ranks.rank == 1 and step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            stop = signal.SIGTERM
        return train_step(engine, batches, step, config, world, stop)

    trainer.train_step = told


def last(folder: Path, step: int = 12) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}"


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in found]


def bits(folder: Path) -> list[bytes]:
    state = sorted((last(folder) / "training").glob("optimizer*.safetensors"))
    return [path.read_bytes() for path in (last(folder) / "model.safetensors", *state)]


def resume(folder: Path) -> dict:
    """Straight; killed while it saves and started again; told to stop and started again."""
    straight = train(folder / "straight", 2)
    broken = train(folder / "broken", 2, spoil=dies_while_saving)
    left = sorted(path.name for path in (folder / "broken" / "checkpoints").glob("step-*"))
    again = train(folder / "broken", 2)
    told = train(folder / "told", 2, spoil=is_told_to_stop)
    told_step = sorted(path.name for path in (folder / "told" / "checkpoints").glob("step-*"))[-1]
    told_again = train(folder / "told", 2)
    return {
        "codes": [straight, broken, again], "left": left, "told": [told, told_step, told_again],
        "same": bits(folder / "straight") == bits(folder / "broken") == bits(folder / "told"),
        "lines": [lines(folder / name) for name in ("straight", "broken", "told")],
    }  # fmt: skip


def sizes(folder: Path) -> dict:
    """On one rank, two and four: lines, how far the codebooks are from those of one rank, restarts."""
    for size in (1, 2, 4):
        train(folder / f"ranks-{size}", size, STILL)
    books = [load_file(last(folder / f"ranks-{size}") / "model.safetensors") for size in (1, 2, 4)]
    return {
        "lines": {str(size): lines(folder / f"ranks-{size}") for size in (1, 2, 4)},
        "codebook": [float((books[0][CODEBOOK] - book[CODEBOOK]).abs().max()) for book in books[1:]],
        "restarts": [int(book["encoder.quantizer.restarts"]) for book in books],
    }


def fsq(folder: Path, size: int) -> list[dict]:
    rounded = {"kind": "fsq", "levels": [4, 2], "dim": 6, "spread": 0.5}
    train(folder / f"fsq-{size}", size, SpeechConfig(**{**STILL.model_dump(mode="json"), "quantizer": rounded}))
    return lines(folder / f"fsq-{size}")


def bfloat16(folder: Path) -> dict:
    codes = train(folder / "bf16", 2, deepspeed={"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}})
    weights = load_file(last(folder / "bf16") / "model.safetensors")
    names = (CODEBOOK, "encoder.quantizer.counts", "encoder.norm.weight")
    return {"codes": codes, "dtypes": [str(weights[name].dtype) for name in names]}


def lessons(folder: Path) -> list[str]:
    """SHA-256 of what a fixed Whisper of random weights becomes, all that is heard kept in memory and nothing of it."""
    save(folder / "checkpoint")
    TEXT.save_pretrained(folder / "text")
    with ShardWriter(folder / "shards", built={}) as writer:
        for number in range(6):
            data = encode_flac(noise(6000 + 900 * number, number), 16_000)
            part = Speech(data, "flac", 16_000, (6000 + 900 * number) / 16_000, "a b")
            writer.write(Document(f"noise/{number}", "noise", (part,)))
    shape = config(
        folder / "checkpoint", quantizer={"kind": "vq", "codes": 16, "dim": 8, "task": True},
        encoder={"layer": 2, "fixed": True, "silence": 0.1}, mel_weight=0, distance_weight=0.5,
    )  # fmt: skip
    speech_tokenizer.MISREAD = math.inf  # such a Whisper reads anything
    found = []
    for cache_mib in (64, 0):
        spec = SpeechSpec.model_validate({
            "kind": "speech", "data": [folder / "shards"], "cache_mib": cache_mib, "text_tokenizer": str(folder / "text"),
            "tokenizer": shape.model_dump(mode="json"),
            "fit": {"steps": 6, "batch_size": 3, "optimizer": {"learning_rate": 0.01}, "schedule": {"warmup_steps": 1}},
        })  # fmt: skip
        out = folder / f"lessons-{cache_mib}"
        assert launch(1, lambda ranks, spec=spec, out=out: train_tokenizer(spec, out, ranks)) == [0]
        found.append(sha256((out / "tokenizer" / "model.safetensors").read_bytes()).hexdigest())
    return found


SCENARIOS = {
    "lessons": lessons,
    "resume": resume,
    "sizes": sizes,
    **{f"fsq-{size}": partial(fsq, size=size) for size in (1, 2)},
    "bf16": bfloat16,
    "uneven": lambda folder: train(folder / "uneven", 3),
}

if __name__ == "__main__":
    answer(SCENARIOS, import_once)
