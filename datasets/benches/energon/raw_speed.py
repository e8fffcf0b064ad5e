"""What megatron-energon reads of the raw tars of loading_speed.py; prints its version and samples a second as JSON.

    PYTHON datasets/benches/energon/raw_speed.py FOLDER WORKERS BATCH

PYTHON has megatron-energon and soundfile, and need not have mmpt: its newest version may ask for another torch. FOLDER holds
the tars alone; they are indexed by `energon prepare` first, which is not counted.
"""

import io
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import torch
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    WorkerConfig,
    basic_sample_keys,
    get_loader,
    get_train_dataset,
    stateless,
)
from PIL import Image as Picture


@dataclass
class Decoded(Sample):
    picture: np.ndarray
    samples: np.ndarray


@stateless
def cook(sample: dict) -> Decoded:
    json.loads(sample["json"])
    picture = next(sample[name] for name in ("0.png", "0.jpg") if name in sample)
    with Picture.open(io.BytesIO(picture)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    samples, _ = soundfile.read(io.BytesIO(sample["1.flac"]), dtype="float32")
    return Decoded(**basic_sample_keys(sample), picture=pixels, samples=samples)


class Encoder(DefaultTaskEncoder):
    decoder = None
    cookers = [Cooker(cook)]

    @stateless
    def batch(self, samples: list[Decoded]) -> list[Decoded]:
        return samples

    @stateless
    def encode_batch(self, batch: list[Decoded]) -> list[Decoded]:
        return batch


def main() -> None:
    folder, workers, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    if not (folder / ".nv-meta").exists():
        options = ["--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "2"]
        energon = [str(Path(sys.executable).with_name("energon")), "prepare", str(folder), *options]
        subprocess.run(energon, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    began, count = time.perf_counter(), 0
    dataset = get_train_dataset(
        folder,
        worker_config=WorkerConfig(rank=0, world_size=1, num_workers=workers),
        batch_size=batch,
        shuffle_buffer_size=1000,
        max_samples_per_sequence=None,
        task_encoder=Encoder(),
        repeat=False,
    )
    for samples in get_loader(dataset):
        count += len(samples)
    rate = count / (time.perf_counter() - began)
    print(json.dumps({"version": version("megatron-energon"), "samples": count, "per_second": rate}))


if __name__ == "__main__":
    main()
