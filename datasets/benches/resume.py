"""The stream of tokens under every number of ranks and workers and after kills, and what resuming costs.

    python datasets/benches/resume.py

First: two sources mixed 1 : 1.5, packed, over world sizes 1, 2, 3, 4, 8 and 0, 1, 3 workers, then 50 kills at random steps,
each resumed on another random number of ranks and workers. The packs of all ranks, put into the order of the steps, are hashed.
Then: seconds from a fresh process to the first batch at document 1,000,000 of 1,050,000, and from a cold start, five pairs in
turn. Writes datasets/results/resume.json.
"""

import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.results import Figure, report
from mmpt.vocabulary import Vocabulary

WORLD_SIZES, WORKERS, KILLS, STEPS, PACKS = (1, 2, 3, 4, 8), (0, 1, 3), 50, 24, 24
MANY, RESUMED_AT, PAIRS = 1_050_000, 1_000_000, 5
VOCABULARY = Vocabulary(32_000, "bench", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
RESULT = Path(__file__).resolve().parents[1] / "results" / "resume.json"
FIRST_BATCH = """
import json, sys, time
began = time.perf_counter()
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
state = json.loads(sys.argv[2])
loader = Loader([TokenShards(sys.argv[1])], pack_tokens=2048, packs_per_step=8, seed=0, state=state)
next(iter(loader))
print(time.perf_counter() - began)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        hashes, kills = elastic(Path(temporary))
        many = write(Path(temporary) / "many", MANY, 2, 40, seed=2)
        cold, resumed = first_batches(many)
    ratios = [after / before for before, after in zip(cold, resumed, strict=True)]
    figures = [
        Figure("combinations of ranks and workers", len(WORLD_SIZES) * len(WORKERS), 15),
        Figure("kills and resumes", kills, KILLS),
        Figure("distinct hashes of the stream", len(hashes), 1, at_most=True),
        Figure("seconds to the first batch, cold", statistics.median(cold)),
        Figure("seconds to the first batch at document 1,000,000", statistics.median(resumed)),
        Figure("resumed / cold", statistics.median(ratios), 2.0, at_most=True),
    ]
    sys.exit(0 if report(figures, RESULT) else 1)


def elastic(folder: Path) -> tuple[set[str], int]:
    """(hashes of the stream of `STEPS` steps in every setting, kills)."""
    folders = [write(folder / "one", 3000, 10, 300, seed=0), write(folder / "two", 1300, 10, 300, seed=1)]
    sources = [TokenShards(one) for one in folders]
    hashes = {digest(run(sources, STEPS, ranks, workers)[0]) for ranks in WORLD_SIZES for workers in WORKERS}
    draw, kills = random.Random(0), 0
    for _ in range(KILLS):
        at = draw.randrange(1, STEPS)
        first, state = run(sources, at, draw.choice(WORLD_SIZES), draw.choice(WORKERS))
        then, _ = run(sources, STEPS - at, draw.choice(WORLD_SIZES), draw.choice(WORKERS), json.loads(json.dumps(state)))
        hashes.add(digest(first + then))
        kills += 1
    return hashes, kills


def run(
    sources: list[TokenShards], steps: int, world_size: int, workers: int, state: dict | None = None
) -> tuple[list[bytes], dict]:
    """(tokens, weights and edges of each pack in the order of the stream, state) after so many steps of all ranks."""
    options = {"mixture": [1.0, 1.5], "pack_tokens": 2048, "packs_per_step": PACKS, "seed": 7, "block_documents": 1500}
    loaders = [
        Loader(sources, **options, rank=rank, world_size=world_size, workers=workers, state=state) for rank in range(world_size)
    ]
    iterators = [iter(loader) for loader in loaders]
    packs = []
    for _ in range(steps):
        shares = [next(iterator) for iterator in iterators]
        for group in zip(*shares, strict=True):
            packs += [
                b"".join(tensor.numpy().tobytes() for tensor in (batch.input_ids, batch.weights, batch.cu_seqlens))
                for batch in group
            ]
    for iterator in iterators:
        iterator.close()
    return packs, loaders[0].state_dict()


def digest(packs: list[bytes]) -> str:
    return hashlib.sha256(b"".join(packs)).hexdigest()


def write(folder: Path, documents: int, shortest: int, longest: int, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(shortest, longest + 1, documents)
    ids = draw.integers(0, VOCABULARY.text_size, int(lengths.sum())).astype(np.uint16)
    ends = np.cumsum(lengths)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number, (start, end) in enumerate(zip(ends - lengths, ends, strict=True)):
            writer.write(TokenDocument(f"{number}", folder.name, ids[start:end]))
    return folder


def first_batches(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds from the start of a process to its first batch, (cold, resumed at document 1,000,000)."""
    loader = Loader([TokenShards(folder)], pack_tokens=2048, packs_per_step=8, seed=0)
    blocks = loader.describe()["blocks"]
    block, within = divmod(RESUMED_AT * blocks, MANY)
    packs = len(loader._plan(0, block).packs)
    pack = packs * within // MANY // 8 * 8
    states = {"cold": None, "resumed": {**loader.state_dict(), "step": 1, "block": block, "pack": pack}}
    found: dict[str, list[float]] = {name: [] for name in states}
    for _ in range(PAIRS):
        for name, state in states.items():
            command = [sys.executable, "-c", FIRST_BATCH, str(folder), json.dumps(state)]
            found[name].append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return found["cold"], found["resumed"]


if __name__ == "__main__":
    main()
