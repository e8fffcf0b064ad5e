"""The loaders beside webdataset: the same tars, the same decoding, the same number of workers, in turns.

    python datasets/benches/loading_speed.py [--energon PYTHON]

Raw shards: pictures of 28 to 300 pixels and utterances of 1 to 3 s to arrays, samples a second. Token shards: packs of 4,096
tokens, tokens a second, against webdataset and a greedy packer that makes the same tensors. All as the median of five rounds.
With `--energon`, a Python in which megatron-energon is installed reads the same raw tars in the same rounds. Writes
datasets/results/loading_speed.json.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image as Picture

from mmpt.data.loading.documents import DocumentLoader
from mmpt.data.loading.loader import Loader
from mmpt.data.loading.packing import PackedBatch, pack
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import ShardWriter, TokenShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import decode_image, decode_speech, encode_flac, encode_png
from mmpt.results import Figure, report
from mmpt.vocabulary import Vocabulary

RAW, TOKENS, WORKERS, ROUNDS, BATCH, PACK = 3000, 60_000, 2, 5, 32, 4096
VOCABULARY = Vocabulary(32_000, "bench", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
RESULT = Path(__file__).resolve().parents[1] / "results" / "loading_speed.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energon", type=Path, help="a Python with megatron-energon")
    energon = parser.parse_args().energon
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        raw, tokens = write_raw(Path(temporary) / "raw"), write_tokens(Path(temporary) / "tokens")
        third = [lambda: energon_raw(energon, raw)] if energon else []
        ours, theirs, *energons = in_turn(lambda: read_raw(raw), lambda: webdataset_raw(raw), *third)
        packed, greedy = in_turn(lambda: read_packs(tokens), lambda: webdataset_packs(tokens))
    figures = [
        Figure("raw samples/s", statistics.median(ours)),
        Figure("raw samples/s, webdataset", statistics.median(theirs)),
        Figure("raw: ours / webdataset", ratio(ours, theirs), 1.0),
        *(Figure("raw samples/s, megatron-energon", statistics.median(rates)) for rates in energons),
        *(Figure("raw: ours / megatron-energon", ratio(ours, rates)) for rates in energons),
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


def write_raw(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    with ShardWriter(folder, built={}, max_documents=250) as writer:
        for number in range(RAW):
            side = int(draw.integers(28, 301))
            smooth = Picture.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
            if number % 2:
                data, suffix = encode_png(smooth), "png"
            else:
                buffer = io.BytesIO()
                smooth.save(buffer, "JPEG", quality=90)
                data, suffix = buffer.getvalue(), "jpg"
            samples = (0.3 * np.sin(np.arange(int(draw.integers(16_000, 48_000))) / draw.uniform(3, 30))).astype(np.float32)
            speech = Speech(encode_flac(samples, 16_000), "flac", 16_000, len(samples) / 16_000, "words")
            writer.write(Document(f"{number}", "bench", (Image(data, suffix, side, side), speech, Text("a caption"))))
    return folder


def write_tokens(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}, max_documents=5000) as writer:
        for number, length in enumerate(np.clip(draw.lognormal(5.0, 0.8, TOKENS), 20, PACK).astype(int)):
            writer.write(TokenDocument(f"{number}", "bench", draw.integers(0, 32_000, length)))
    return folder


def decode(document: Document) -> tuple[np.ndarray, np.ndarray]:
    picture, speech, _ = document.parts
    return np.asarray(decode_image(picture.data)), decode_speech(speech.data)


def read_raw(folder: Path) -> float:
    began, count = time.perf_counter(), 0
    loader = DocumentLoader([DocumentShards(folder)], batch_size=BATCH, decode=decode, seed=0, epochs=1, workers=WORKERS)
    for batch in loader:
        count += len(batch)
    return count / (time.perf_counter() - began)


def webdataset_decode(sample: dict) -> tuple[np.ndarray, np.ndarray]:
    json.loads(sample["json"])
    picture = next(sample[name] for name in ("0.png", "0.jpg") if name in sample)
    return np.asarray(decode_image(picture)), decode_speech(sample["1.flac"])


def webdataset_raw(folder: Path) -> float:
    began, count = time.perf_counter(), 0
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).shuffle(1000).map(webdataset_decode)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=list)
    for batch in loader:
        count += len(batch)
    return count / (time.perf_counter() - began)


def energon_raw(python: Path, folder: Path) -> float:
    """In a process of its own; its start is not counted, as the imports of the others are not."""
    tars = folder.with_name("energon")
    if not tars.exists():
        tars.mkdir()
        for path in folder.glob("*.tar"):
            os.link(path, tars / path.name)
    command = [str(python), str(Path(__file__).parent / "energon" / "raw_speed.py"), str(tars), str(WORKERS), str(BATCH)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert answer["samples"] == RAW, f"megatron-energon read {answer['samples']} of {RAW}"
    return answer["per_second"]


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
