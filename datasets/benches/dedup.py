"""Deduplication at scale, and beside datatrove's MinHash on the same documents.

    python datasets/benches/dedup.py [--documents 2000000] [--compared 100000] [--work FOLDER] [--processes 2]

Documents are drawn: words by Zipf's law over 50,000, lengths log-normal around 150, every twentieth a copy of an earlier one in
which n-grams are replaced up to a Jaccard similarity between 0.75 and 1. A half of them and all of them are gone through
(signatures, buckets, pairs, decisions) in a process of its own whose memory is that of all its processes together. Recall is against
the Jaccard similarity of every pair of a sample. Writes datasets/results/dedup.json.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil

from mmpt.data.curate.copies.buckets import read_array
from mmpt.data.curate.copies.decisions import DuplicateSettings, pictures_gone
from mmpt.data.curate.copies.find import find_copies, members_of, read_decisions
from mmpt.data.curate.copies.minhash import WordHashes, bands_for, shingles, words_of
from mmpt.data.curate.copies.pairs import Media, near_pairs, pictures
from mmpt.data.curate.copies.signatures import PICTURE
from mmpt.data.curate.portions import ShardSets
from mmpt.data.engine.run import RunConfig
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Text
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "dedup.json"
WORDS, EVERY, NGRAM, THRESHOLD = 50_000, 20, 5, 0.8
SETTINGS = DuplicateSettings(ngram=NGRAM, text=THRESHOLD, min_words=10)
CHUNK = 10_000


def vocabulary() -> np.ndarray:
    """Words of letters, shorter where they are more frequent, as in any language."""
    draw = np.random.default_rng(7)
    syllables = np.array([a + b for a in "bdfghklmnprstvz" for b in "aeiou"])
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(draw.choice(syllables, 1 + min(len(found) // 60, 1) + int(draw.integers(0, 3))))] = None
    return np.array(list(found))


def texts(chunk: int, words: np.ndarray) -> list[str]:
    """The texts of `CHUNK` documents. Copies are of documents of the same chunk, or of the first one of all."""
    draw = np.random.default_rng((11, chunk))
    rates = np.cumsum(1 / np.arange(1, WORDS + 1))
    lengths = np.clip(draw.lognormal(np.log(150), 0.5, CHUNK), 20, 3000).astype(int)
    ids = np.searchsorted(rates, draw.random(int(lengths.sum())) * rates[-1])
    own = np.split(ids, np.cumsum(lengths)[:-1])
    first = np.random.default_rng((11, 0)) if chunk else None
    if first is not None:  # the beginning of chunk 0, drawn again
        before = np.clip(first.lognormal(np.log(150), 0.5, CHUNK), 20, 3000).astype(int)
        other = np.searchsorted(rates, first.random(int(before.sum())) * rates[-1])
        early = np.split(other, np.cumsum(before)[:-1])
    else:
        early = own
    for number in range(EVERY - 1, CHUNK, EVERY):
        origin = int(draw.integers(0, number))
        while origin % EVERY == EVERY - 1:
            origin -= 1
        copy = (early if number // EVERY % 2 and chunk else own)[origin].copy()
        wanted = draw.uniform(0.75, 1)
        # A word that is replaced takes NGRAM n-grams of the n with it: J = (n - k NGRAM) / (n + k NGRAM).
        changed = round(len(copy) * (1 - wanted) / (1 + wanted) / NGRAM)
        if changed:
            places = (np.arange(changed) * (len(copy) / changed) + NGRAM).astype(int) % len(copy)
            copy[places] = WORDS - 1 - draw.integers(0, 1000, len(places))
        own[number] = copy
    return [" ".join(words[one]) for one in own]


def make(folder: str, chunks: tuple[int, int]) -> None:
    words = vocabulary()
    with ShardWriter(Path(folder), built={}) as writer:
        for chunk in range(*chunks):
            for number, text in enumerate(texts(chunk, words)):
                writer.write(Document(f"document-{chunk * CHUNK + number:09d}", "drawn", (Text(text),)))


def measured(folders: list[str], place: str, processes: int, result: str) -> None:
    """In a process of its own: go through the sets, and write seconds, peak memory and the files of decisions."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not stop.wait(0.2):
            total = 0
            for one in (me, *me.children(recursive=True)):
                try:
                    total += one.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, busy = time.perf_counter(), os.times()
    files = find_copies(SETTINGS, ShardSets(folders=tuple(folders)), place, (), RunConfig(processes=processes))
    seconds, after = time.perf_counter() - began, os.times()
    stop.set()
    watcher.join()
    cpu = sum(after[:4]) - sum(busy[:4])
    Path(result).write_text(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak[0] / 2**30, "files": files}))


def alone(target, *arguments) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{target.__name__} ended with {process.exitcode}")


def gone(place: Path, files: list[str]) -> dict[int, int]:
    """Number of each document that goes → of the one that it goes for."""
    found = {}
    for name in files:
        for key, (decision, *_) in read_decisions(str(place), name).items():
            found[int(key.split("-")[1])] = int(decision.reason.split("document-")[1][:9])
    return found


def true_pairs(sample: list[str]) -> dict[tuple[int, int], float]:
    """Pairs of a Jaccard similarity of 0.5 and more, by the definition: every pair, on sets of n-grams of words themselves."""
    from scipy.sparse import csr_array

    sets, names = [], {}
    for text in sample:
        words = text.split()
        sets.append({names.setdefault(tuple(words[at : at + NGRAM]), len(names)) for at in range(max(1, len(words) - NGRAM + 1))})
    sizes = np.array([len(one) for one in sets])
    columns = np.concatenate([np.fromiter(one, np.int64) for one in sets])
    table = csr_array((np.ones(len(columns), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(sets), len(names)))
    found = {}
    for start in range(0, len(sets), 2000):
        shared = (table[start : start + 2000] @ table.T).tocoo()
        one, other = shared.row + start, shared.col
        alike = shared.data / (sizes[one] + sizes[other] - shared.data)
        for a, b, j in zip(*(values[(one < other) & (alike >= 0.5)].tolist() for values in (one, other, alike)), strict=True):
            found[a, b] = j
    return found


def recalled(pairs: dict[tuple[int, int], float], lost: dict[int, int], low: float, high: float) -> tuple[float, int]:
    """(Share found of the pairs so alike, their number). A pair is found where the later one goes: for the earlier, or for another."""
    wanted = [later for (_, later), alike in pairs.items() if low <= alike < high]
    return sum(one in lost for one in wanted) / max(len(wanted), 1), len(wanted)


def one_picture(count: int) -> float:
    """Seconds to decide on `count` documents with one picture of 2,081 slightly different hashes."""
    draw = np.random.default_rng(5)
    flips = np.array([0, *(1 << a for a in range(64)), *((1 << a) ^ (1 << b) for a in range(64) for b in range(a))], dtype=np.uint64)
    rows = np.zeros(count, dtype=PICTURE)
    rows["document"], rows["hash"] = np.arange(count), np.uint64(0x0123456789ABCDEF) ^ draw.choice(flips, count)
    began = time.perf_counter()
    hashes, kind = np.unique(rows["hash"], return_inverse=True)
    media = Media(rows["document"].astype(np.int64), rows["place"].astype(np.int64), kind, near_pairs(hashes, 5), np.zeros(len(hashes), np.int64))
    found = sum(1 for _ in pictures_gone(DuplicateSettings(), media, (), count, 0))
    seconds = time.perf_counter() - began
    assert found == count
    return seconds
