"""Deduplication at scale, and beside datatrove's MinHash on the same documents.

    python datasets/benches/dedup.py [--documents 2000000] [--compared 20000] [--work FOLDER] [--processes 2]

Documents are drawn: words by Zipf's law over 50,000, lengths log-normal around 150, every twentieth a copy of an earlier one in
which n-grams are replaced up to a Jaccard similarity between 0.75 and 1. They are gone through (signatures, buckets, pairs,
decisions) in two halves, the second against the first, each in a process of its own whose memory is that of all its processes
together: the second run signs a half and compares all, so that the two take longer than one run over all would. Recall is
against the Jaccard similarity of every pair of a sample. Writes datasets/results/dedup.json.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Picture

from mmpt.data.curate.copies.decisions import DuplicateSettings, pictures_gone
from mmpt.data.curate.copies.find import find_copies, read_decisions
from mmpt.data.curate.copies.minhash import bands_for, words_of
from mmpt.data.curate.copies.pairs import Compared, Media, document_pairs, near_pairs, similarities
from mmpt.data.curate.copies.sign import members_of
from mmpt.data.curate.copies.signatures import DOCUMENTS, PICTURE
from mmpt.data.curate.portions import ShardSets
from mmpt.data.engine.run import RunConfig
from mmpt.data.extra import need
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.media import encode_png
from mmpt.results import Figure, gather
from mmpt.scripts import main_guard

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "dedup.json"
WORDS, EVERY, NGRAM, THRESHOLD = 50_000, 20, 5, 0.8
SETTINGS = DuplicateSettings(ngram=NGRAM, text=THRESHOLD, min_words=10)
CHUNK = 10_000
PARTS = ["pictures", "datatrove", "scale"]


def vocabulary() -> np.ndarray:
    """Words of letters, shorter where they are more frequent, as in any language."""
    draw = np.random.default_rng(7)
    syllables = np.array([a + b for a in "bdfghklmnprstvz" for b in "aeiou"])
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(draw.choice(syllables, 1 + min(len(found) // 60, 1) + int(draw.integers(0, 3))))] = None
    return np.array(list(found))


def drawn(chunk: int) -> tuple[list[np.ndarray], np.random.Generator]:
    """Words of the documents of a chunk by their rank, none a copy, and what goes on drawing."""
    draw = np.random.default_rng((11, chunk))
    rates = np.cumsum(1 / np.arange(1, WORDS + 1))
    lengths = np.clip(draw.lognormal(np.log(150), 0.5, CHUNK), 20, 3000).astype(int)
    ids = np.searchsorted(rates, draw.random(int(lengths.sum())) * rates[-1])
    return np.split(ids, np.cumsum(lengths)[:-1]), draw


@cache
def first_chunk() -> list[np.ndarray]:
    return drawn(0)[0]


def texts(chunk: int, words: np.ndarray) -> list[str]:
    """The texts of `CHUNK` documents. Copies are of documents of the same chunk, or of the first one."""
    own, draw = drawn(chunk)
    for number in range(EVERY - 1, CHUNK, EVERY):
        origin = int(draw.integers(0, number))
        while origin % EVERY == EVERY - 1:
            origin -= 1
        copy = (first_chunk() if number // EVERY % 2 else own)[origin].copy()
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


def measured(folder: str, place: str, against: list[str], processes: int, result: str) -> None:
    """In a process of its own: go through a set, and write seconds, peak memory and the files of decisions."""
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
    files = find_copies(SETTINGS, ShardSets(folders=(folder,)), place, against, RunConfig(processes=processes))
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
    table = csr_array(
        (np.ones(len(columns), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(sets), len(names))
    )
    found = {}
    for start in range(0, len(sets), 2000):
        shared = (table[start : start + 2000] @ table.T).tocoo()
        one, other = shared.row + start, shared.col
        alike = shared.data / (sizes[one] + sizes[other] - shared.data)
        for a, b, j in zip(*(values[(one < other) & (alike >= 0.5)].tolist() for values in (one, other, alike)), strict=True):
            found[a, b] = j
    return found


def recalled(pairs: dict[tuple[int, int], float], lost: dict[int, int], low: float, high: float) -> tuple[float, int]:
    """(Share found of the pairs so alike, their number). A pair is found where the later one goes: for the earlier, or for
    another."""
    wanted = [later for (_, later), alike in pairs.items() if low <= alike < high]
    return sum(one in lost for one in wanted) / max(len(wanted), 1), len(wanted)


def one_picture(count: int) -> float:
    """Seconds to decide on `count` documents with one picture of 2,081 slightly different hashes."""
    draw = np.random.default_rng(5)
    flips = np.array(
        [0, *(1 << a for a in range(64)), *((1 << a) ^ (1 << b) for a in range(64) for b in range(a))], dtype=np.uint64
    )
    rows = np.zeros(count, dtype=PICTURE)
    rows["document"], rows["hash"] = np.arange(count), np.uint64(0x0123456789ABCDEF) ^ draw.choice(flips, count)
    began = time.perf_counter()
    hashes, kind = np.unique(rows["hash"], return_inverse=True)
    media = Media(
        rows["document"].astype(np.int64),
        rows["place"].astype(np.int64),
        kind,
        near_pairs(hashes, 5),
        np.zeros(len(hashes), np.int64),
    )
    found = sum(1 for _ in pictures_gone(DuplicateSettings(), media, (), count, 0))
    seconds = time.perf_counter() - began
    assert found == count
    return seconds


def beside_datatrove(sets: ShardSets, count: int, work: Path) -> list[Figure]:
    """The same documents through datatrove's MinHash and ours, one process each, in turn: seconds, and whose pairs the other
    lacks.

    datatrove is given the texts in memory, once with its English word tokenizer and once with words cut at spaces, which here are
    the same; n-grams, bands, values of a band and 32 bits a value are ours.
    """
    need("datatrove", "peers")
    import xxhash
    from datatrove.data import Document as Page
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import load_word_tokenizer
    from loguru import logger

    bands, rows = bands_for(THRESHOLD)
    config = MinhashConfig(n_grams=NGRAM, num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(32, "xxhash"))
    every = [document for unit in sets.units() for document in sets.documents(unit)]
    pages = [Page(text=one.parts[0].text, id=one.id) for one in every[:count]]  # pyright: ignore

    def theirs(pages: list, plain: bool, place: Path) -> float:
        shutil.rmtree(place, ignore_errors=True)
        began = time.perf_counter()
        signer = MinhashDedupSignature(str(place / "signatures"), config, "eng")
        signer._hash_func = lambda text: xxhash.xxh32_intdigest(text.encode())  # its own needs xxhash before 4
        if plain:
            signer.word_tokenizer = Spaces()
        signer.run(iter(pages), 0, 1)
        for bucket in range(bands):
            MinhashDedupBuckets(str(place / "signatures"), str(place / "pairs"), config=config).run(None, bucket, bands)
        MinhashDedupCluster(str(place / "pairs"), str(place / "clusters"), config).run(None, 0, 1)
        return time.perf_counter() - began

    class Spaces:
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    logger.remove()
    tokenizer = load_word_tokenizer("eng")
    assert all(tokenizer.word_tokenize(page.text) == words_of(page.text) for page in pages[:200]), "other words"
    share = pages[: count // 10]
    tokenized, plain = [], []  # ratios, each of two runs one after the other
    for _ in range(5):
        shutil.rmtree(work / "ours", ignore_errors=True)
        began = time.perf_counter()
        find_copies(SETTINGS, sets, str(work / "ours"), (), RunConfig())
        ours = (time.perf_counter() - began) / len(every)
        plain.append(theirs(pages, True, work / "datatrove") / len(pages) / ours)
        tokenized.append(theirs(share, False, work / "datatrove-tokenized") / len(share) / ours)
    dups = [np.fromfile(path, dtype="<u4").reshape(-1, 4) for path in sorted((work / "datatrove" / "pairs").glob("*.dups"))]
    their_pairs = closed(np.concatenate(dups)[:, [1, 3]].astype(np.int64))
    members, documents = members_of([str(work / "ours")], SETTINGS.signing(), DOCUMENTS)
    compared = Compared(tuple(members), None, 0, False, os.getcwd())
    found = document_pairs(compared, SETTINGS.signing().keys, range(2, SETTINGS.signing().keys), documents, RunConfig())
    met = closed(found)
    scores = similarities(compared, found, RunConfig())
    our_pairs = closed(found[scores >= THRESHOLD])
    alike = {pair: exact(pages[pair[0]].text, pages[pair[1]].text) for pair in their_pairs | met}
    enough = {pair for pair, one in alike.items() if one >= THRESHOLD}
    lacked, more = their_pairs - our_pairs, our_pairs - their_pairs
    return [
        Figure("documents beside datatrove", count),
        Figure("seconds, datatrove ÷ ours, its tokenizer", float(np.median(tokenized)), 1),
        Figure("seconds, datatrove ÷ ours, words at spaces", float(np.median(plain)), 1),
        Figure("pairs of datatrove", len(their_pairs)),
        Figure("our pairs", len(our_pairs)),
        Figure("pairs of both", len(their_pairs & our_pairs)),
        Figure(
            "pairs of both ÷ those of either at 0.8",
            len(their_pairs & our_pairs & enough) / len((their_pairs | our_pairs) & enough),
            0.95,
        ),
        Figure("datatrove's we lack, Jaccard below 0.8", len(lacked - enough)),
        Figure("datatrove's we lack, no band met", len((lacked & enough) - met)),
        Figure("datatrove's we lack, otherwise", len(lacked & enough & met), 0, at_most=True),
        Figure("ours datatrove lacks, no band met", len(more & enough)),
        Figure("ours datatrove lacks, Jaccard below 0.8", len(more - enough)),
    ]


def closed(pairs: np.ndarray) -> set[tuple[int, int]]:
    """All pairs within the groups that pairs link."""
    groups: dict[int, list[int]] = {}
    root: dict[int, int] = {}
    for one, other in pairs.tolist():
        a, b = root.setdefault(one, one), root.setdefault(other, other)
        groups.setdefault(a, [a])
        groups.setdefault(b, [b])
        if a != b:
            for member in groups[b]:
                root[member] = a
            groups[a] += groups.pop(b)
    return {(min(a, b), max(a, b)) for own in groups.values() for at, a in enumerate(own) for b in own[:at]}


def exact(one: str, other: str) -> float:
    """Jaccard similarity of the sets of n-grams themselves."""
    first, second = (
        {tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)} for words in (one.split(), other.split())
    )
    return len(first & second) / len(first | second)


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2_000_000)
    parser.add_argument("--compared", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for what is made on the way")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; other figures stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        figures = bench(arguments, Path(folder))
        if arguments.parts != PARTS and RESULT.exists():
            figures = list(figures)
            fresh = {one.name for one in figures}
            before = [Figure(*(row[key] for key in ("name", "value", "bar", "at_most")))
                      for row in json.loads(RESULT.read_text())["figures"]]  # fmt: skip
            figures = [*figures, *(one for one in before if one.name not in fresh)]
        sys.exit(0 if gather(figures, RESULT, ["datatrove", "numpy"]) else 1)


def bench(arguments: argparse.Namespace, work: Path) -> Iterator[Figure]:
    if "pictures" in arguments.parts:
        wall, cpu = whole_picture(work, 200_000, arguments.processes)
        yield Figure("one picture in 200,000 documents, seconds", wall, 30, at_most=True)
        yield Figure("one picture in 200,000 documents, CPU seconds", cpu)
        yield Figure("2,081 variants of it, seconds", one_picture(200_000), 30, at_most=True)
    if "datatrove" in arguments.parts:
        make(str(work / "compared"), (0, arguments.compared // CHUNK))
        yield from beside_datatrove(ShardSets(folders=(str(work / "compared"),)), arguments.compared, work)
    if "scale" in arguments.parts:
        yield from at_scale(arguments, work)


def at_scale(arguments: argparse.Namespace, work: Path) -> Iterator[Figure]:
    half = arguments.documents // 2 // CHUNK
    makers = [
        multiprocessing.get_context("spawn").Process(target=make, args=(str(work / name), chunks))
        for name, chunks in (("a", (0, half)), ("b", (half, 2 * half)))
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    runs = []
    for name, against in (("a", []), ("b", ["a"])):
        earlier = [str(work / f"{one}.signed") for one in against]
        alone(measured, str(work / name), str(work / f"{name}.signed"), earlier, arguments.processes, str(work / f"{name}.json"))
        runs.append(json.loads((work / f"{name}.json").read_text()))
        print(name, {key: value for key, value in runs[-1].items() if key != "files"}, flush=True)
    first, second = runs
    lost = {**gone(work / "a.signed", first["files"]), **gone(work / "b.signed", second["files"])}
    words = vocabulary()
    sample = [text for chunk in range(arguments.sample // CHUNK) for text in texts(chunk, words)]
    pairs = true_pairs(sample)
    recall, count = recalled(pairs, lost, 0.8, 2)
    near, near_count = recalled(pairs, lost, 0.8, 0.82)
    for_less = sum(pairs.get((keeper, one), 1) < THRESHOLD for one, keeper in lost.items() if one < len(sample))
    yield Figure("documents", arguments.documents)
    yield Figure("processes", arguments.processes)
    for name in ("seconds", "cpu"):
        told = "seconds" if name == "seconds" else "CPU seconds"
        yield Figure(told, first[name] + second[name])
        yield Figure(f"{told} ÷ those of the first half", 1 + second[name] / first[name], 2.3, at_most=True)
    yield Figure("peak GiB of all processes", max(first["peak"], second["peak"]), 4, at_most=True)
    yield Figure("peak GiB of all processes, the first half", first["peak"])
    signed = [one for name in ("a", "b") for one in (work / f"{name}.signed").iterdir()]
    yield Figure("GiB of signatures", sum(one.stat().st_size for one in signed) / 2**30)
    yield Figure("documents that go", len(lost))
    yield Figure("documents of the sample compared with all", len(sample))
    yield Figure("pairs at 0.8 and more in the sample", count)
    yield Figure("recall at 0.8 and more", recall, 0.95)
    yield Figure("pairs from 0.80 to 0.82", near_count)
    yield Figure("recall from 0.80 to 0.82", near, 0.95)
    yield Figure("documents that go for one less alike", for_less, 0, at_most=True)


def whole_picture(work: Path, count: int, processes: int) -> tuple[float, float]:
    """Seconds, and those of all processes on a CPU, to go through `count` documents of a text and one picture, the same in all.

    The bar is for the latter: with no other work on the machine the former are fewer, with other work they are anything.
    """
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = encode_png(Picture.fromarray(pixels).resize((64, 64)))
    with ShardWriter(work / "pictures", built={}) as writer:
        for number in range(count):
            writer.write(Document(f"page {number}", "drawn", (Image(data, "png", 64, 64), Text(f"page {number}"))))
    began, busy = time.perf_counter(), os.times()
    find_copies(SETTINGS, ShardSets(folders=(str(work / "pictures"),)), str(work / "signed"), (), RunConfig(processes=processes))
    return time.perf_counter() - began, sum(os.times()[:4]) - sum(busy[:4])


if __name__ == "__main__":
    main()
