"""Memory that training takes with ten times the data: examples are read from the shards when a step needs them.

    python tokenizers/benches/memory.py [OUT]

Drawn scenes with spoken captions, `COUNT` and ten times as many, are made in OUT (default runs/memory); a tokenizer of pictures,
one of speech and a vocoder are trained for a few steps on each, each training a process of its own. Both sets are larger than
what the trainings may keep decoded. Writes tokenizers/results/memory.json.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.run import RunConfig
from mmpt.progress import progress_bars
from mmpt.results import Figure, report
from mmpt.storage import MANIFEST, write_bytes

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tokenizers" / "results"
COUNT, MORE, CACHE_MIB = 300, 10, 16
BAR = 1.1
FIT = {"steps": 20, "batch_size": 8, "optimizer": {"learning_rate": 0.001}, "run": {"log_every": 10}}
SPECS = {
    "image": {
        "tokenizer": {
            "side": 256,
            "tower": {"patch": 32, "width": 32, "depth": 0, "heads": 2},
            "qformer": {"queries": 4, "width": 32, "depth": 1, "heads": 2},
            "quantizer": {"kind": "ema", "codes": 32, "dim": 8, "normalize": True},
            "decoder": {"patch": 32, "width": 32, "depth": 0, "heads": 2},
            "captions": {"words": 20, "buckets": 64, "width": 32, "depth": 1, "heads": 2},
        },
        "stages": {"joint": {"fit": FIT}},
    },
    "speech": {
        "tokenizer": {
            "quantizer": {"kind": "ema", "codes": 32, "dim": 8},
            "encoder": {"dim": 32, "heads": 2, "conv_blocks": 1, "layers_pooled": 1, "layers_after": 1, "text_layers": 1},
            "decoder": {"dim": 32, "heads": 2, "layers": 1, "blocks": 1, "flow": {"dim": 32, "blocks": 1, "steps": 2}},
            "window": 96,
        },
        "fit": FIT,
        "speak": FIT,
    },
    "vocoder": {"vocoder": {"dim": 32, "blocks": 1, "crop": 32}, "fit": FIT},
}


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/memory")
    sizes = {"once": COUNT, "more": MORE * COUNT}
    data = {name: scenes(out / f"shards-{name}", count) for name, count in sizes.items()}
    text = out / "text"
    trained(out, "text", {"kind": "text", "data": [str(data["once"])], "ids": 300}, text)
    figures = []
    for kind, settings in SPECS.items():
        more = {"text_tokenizer": str(text / "tokenizer")} if kind == "speech" else {}
        peaks = {
            name: trained(out, kind, {"kind": kind, "data": [str(data[name])], **settings, **more}, out / f"{kind}-{name}")
            for name in data
        }
        figures += [Figure(f"{kind}: peak MiB, {sizes[name]} documents", peak / 1024) for name, peak in peaks.items()]
        figures.append(Figure(f"{kind}: memory with {MORE} x the data", peaks["more"] / peaks["once"], BAR, at_most=True))
    sys.exit(0 if report(figures, RESULTS / "memory.json") else 1)


def scenes(out: Path, count: int) -> Path:
    """Document shards of so many drawn scenes in `out`, made where they are not there yet."""
    if not (out / MANIFEST).exists():
        source = {"kind": "spoken_scenes", "split": "train", "count": count}
        with progress_bars() as progress:
            build(BuildConfig.model_validate({"sources": [source]}), out, RunConfig(processes=2), progress, out.name)
    return out


def trained(out: Path, kind: str, spec: dict, run: Path) -> int:
    """Train by `spec` into `run`, anew; the most memory that the process took, in KiB."""
    shutil.rmtree(run, ignore_errors=True)
    if kind != "text":
        spec = {**spec, "cache_mib": CACHE_MIB}
    write_bytes(out / f"{run.name}.yaml", json.dumps(spec, indent=1).encode())  # JSON is YAML
    command = [sys.executable, str(ROOT / "tokenizers" / "train.py"), str(out / f"{run.name}.yaml"), str(run)]
    with open(out / f"{run.name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        # The usage of this child alone; that of all children so far would never fall. A child starts with what its parent took,
        # which is why nothing large is imported here.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{out / run.name}.log: training ended with exit code {process.returncode}")
    return usage.ru_maxrss


if __name__ == "__main__":
    main()
