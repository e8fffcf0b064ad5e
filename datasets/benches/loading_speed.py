"""The loader beside webdataset: the same tars, the same number of workers, in turns.

    python datasets/benches/loading_speed.py

Packs of 4,096 tokens from token shards, tokens a second, against webdataset and a greedy packer that makes the same tensors; the
median of five rounds. Writes datasets/results/loading_speed.json.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import webdataset

from mmpt.data.loading.loader import Loader
from mmpt.data.loading.packing import PackedBatch, pack
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.results import Figure, report
from mmpt.vocabulary import Vocabulary

TOKENS, WORKERS, ROUNDS, PACK = 60_000, 2, 5, 4096
VOCABULARY = Vocabulary(32_000, "bench", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
RESULT = Path(__file__).resolve().parents[1] / "results" / "loading_speed.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        tokens = write_tokens(Path(temporary) / "tokens")
        packed, greedy = in_turn(lambda: read_packs(tokens), lambda: webdataset_packs(tokens))
    figures = [
        Figure("packed tokens/s", statistics.median(packed)),
        Figure("packed tokens/s, webdataset + greedy packer", statistics.median(greedy)),
        Figure("packed: ours / webdataset", ratio(packed, greedy), 3.0),
    ]
    sys.exit(0 if report(figures, RESULT, ["webdataset"]) else 1)


def in_turn(*rates: Callable[[], float]) -> list[list[float]]:
    """What each gives in five rounds in turn, after one unmeasured round."""
    for rate in rates:
        rate()
    rounds = [[rate() for rate in rates] for _ in range(ROUNDS)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(ones: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def write_tokens(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}, max_documents=5000) as writer:
        for number, length in enumerate(np.clip(draw.lognormal(5.0, 0.8, TOKENS), 20, PACK).astype(int)):
            writer.write(TokenDocument(f"{number}", "bench", draw.integers(0, 32_000, length)))
    return folder


def read_packs(folder: Path) -> float:
    began, tokens = time.perf_counter(), 0
    loader = Loader([TokenShards(folder)], pack_tokens=PACK, packs_per_step=8, seed=0, epochs=1, workers=WORKERS)
    for step in loader:
        tokens += sum(batch.input_ids.shape[1] for batch in step)
    return tokens / (time.perf_counter() - began)


def to_document(sample: dict) -> TokenDocument:
    record = json.loads(sample["json"])
    return TokenDocument(record["id"], record["source"], np.load(io.BytesIO(sample["ids.npy"]), allow_pickle=False))


def greedy_packs(stream) -> object:
    """Packs in the order of the stream: a document that does not fit opens the next one."""
    open_pack, space = [], PACK
    for document in stream:
        if len(document.ids) > space:
            yield pack(open_pack)
            open_pack, space = [], PACK
        open_pack.append(document)
        space -= len(document.ids)
    if open_pack:
        yield pack(open_pack)


def webdataset_packs(folder: Path) -> float:
    began, tokens = time.perf_counter(), 0
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).shuffle(1000).map(to_document).compose(greedy_packs)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=WORKERS):
        assert isinstance(batch, PackedBatch)
        tokens += batch.input_ids.shape[1]
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
