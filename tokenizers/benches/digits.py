"""What the benches on spoken digits share: strings of recordings as shards, and specifications of tokenizers for them.

Strings are of recordings of one speaker with short silences between them. Test: recordings 0 to 4 of each digit and speaker, in
strings of 3 to 7; training: recordings 5 to 49, in strings of 1 to 7.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.run import RunConfig
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Speech
from mmpt.media import decode_speech
from mmpt.progress import progress_bars
from mmpt.storage import MANIFEST, write_bytes
from mmpt.tokenizers.text import train_text_tokenizer

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT.parent / "shared" / "data" / "spoken_digits" / "recordings"
RESULTS = ROOT / "tokenizers" / "results"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo")
TRAIN, TEST = (5, 49), (0, 4)


def strings(out: Path, indices: tuple[int, int], count: int, shortest: int, seed: int, speakers: Sequence[str] = ()) -> Path:
    """Document shards of `count` strings in `out`, made where they are not there yet."""
    if not (out / MANIFEST).exists():
        source = {
            "kind": "recordings",
            "folder": str(RECORDINGS),
            "words": {str(digit): word for digit, word in enumerate(WORDS)},
            "indices": indices,
            "count": count,
            "shortest": shortest,
            "longest": 7,
            "speakers": tuple(speakers),
            "seed": seed,
            "license": "CC-BY-SA-4.0",
        }
        with progress_bars() as progress:
            build(BuildConfig(sources=[source]), out, RunConfig(processes=2), progress, out.name)
    return out


def utterances(shards: Path) -> tuple[list[np.ndarray], list[str]]:
    """Waveforms (float32, 16 kHz) and texts of all utterances."""
    parts = [part for document in DocumentShards(shards) for part in document.parts if isinstance(part, Speech)]
    return [decode_speech(part.data) for part in parts], [part.text for part in parts]


def text_tokenizer(folder: Path) -> Path:
    """One id for each digit's word."""
    if not folder.exists():
        train_text_tokenizer([f"{' '.join(WORDS)} {' '.join(reversed(WORDS))}"] * 50, 300).save_pretrained(folder)
    return folder


def specification(pool: int, quantizer: dict, data: Sequence[Path], text: Path, steps: int, **changes) -> dict:
    """A specification for tokenizers/train.py; context and windows are the same in seconds whatever the rate."""
    longer = 4 / pool
    tokenizer = {
        "quantizer": quantizer,
        "pool": pool,
        "window": int(140 * longer),
        "encoder": {"conv_blocks": 5, "attention": max(1, int(6 * longer))},
        "decoder": {"attention": max(1, int(6 * longer)), "flow": {}},
        "quantize_from": 0.45,
        "augment": {"speed": 0.1, "pitch": 0.12, "gain": 20, "tilt": 6, "noise": 0.3},
        **changes,
    }
    fit = {"steps": steps, "batch_size": 8, "optimizer": {"learning_rate": 0.0015}, "schedule": {"warmup_steps": 100},
           "run": {"save_every": 1000, "log_every": 50}}  # fmt: skip
    return {
        "kind": "speech",
        "data": [str(path) for path in data],
        "text_tokenizer": str(text),
        "tokenizer": tokenizer,
        "fit": fit,
    }


def train(runs: dict[Path, dict], processes: int = 2, result: str = "tokenizer") -> None:
    """Train each specification into its folder, `processes` at a time on one thread each; where `result` is, it is done."""

    def one(pair: tuple[Path, dict]) -> None:
        run, spec = pair
        if (run / result).exists():
            return
        run.mkdir(parents=True, exist_ok=True)
        write_bytes(run / "spec.yaml", json.dumps(spec, indent=1).encode())
        with open(run / "log.txt", "ab") as log:
            command = [sys.executable, str(ROOT / "tokenizers" / "train.py"), str(run / "spec.yaml"), str(run)]
            subprocess.run(command, check=True, stdout=log, stderr=log)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, runs.items()))


def training_seconds(run: Path) -> float:
    """Wall seconds of all steps, by the run's own metrics."""
    total, before = 0.0, 0
    for path in sorted(run.glob("*/metrics.jsonl")):
        before = 0
        for line in map(json.loads, path.read_text().splitlines()):
            total += line["seconds"] * (line["step"] - before)
            before = line["step"]
    return total
