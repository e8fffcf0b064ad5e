"""What needs no tokenizer: the mean of the pictures that were trained on, the nearest of them, and the text that goes with it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.text_encoders.words import Words

TOGETHER = 64
"""Training pictures that are compared at once."""
COMPARED = 64
"""Most pixels of a side by which pictures are compared; larger ones are averaged down to that."""
WORDS = CaptionConfig(words=256, buckets=8192)


class Floors(NamedTuple):
    """`looked`: how many training pictures there were; `mean` uint8 [side, side, 3]; `nearest` uint8 [n, side, side, 3] and
    `texts` [n]: to each held-out picture the training picture with the least squared difference of pixels, and its text."""

    looked: int
    mean: np.ndarray
    nearest: np.ndarray
    texts: list[str]


def floors(held_out: np.ndarray, training: Iterable[tuple[np.ndarray, str]]) -> Floors:
    """Of `held_out` uint8 [n, side, side, 3] and (picture of that side, text) pairs, which are read once and dropped: in memory
    is one picture for each that is held out, whatever their number. Without any, `looked` is 0, and the mean that of
    `held_out`."""
    count, side = len(held_out), held_out.shape[1]
    total, looked = np.zeros(held_out.shape[1:]), 0
    best, nearest, texts = np.full(count, np.inf), np.zeros_like(held_out), [""] * count
    own = _compared(held_out)
    for batch in _batches(training):
        pictures = np.stack([picture for picture, _ in batch])
        looked += len(batch)
        total += pictures.sum(axis=0, dtype=np.float64)
        other = _compared(pictures)
        apart = np.square(other).sum(axis=1) - 2 * (own @ other.T)  # less what is the same for all of a row
        first = apart.argmin(axis=1)
        found = apart[np.arange(count), first]
        for number in np.flatnonzero(found < best).tolist():
            best[number], nearest[number], texts[number] = found[number], pictures[first[number]], batch[first[number]][1]
    mean = total / looked if looked else held_out.mean(axis=0, dtype=np.float64)
    assert mean.shape == (side, side, 3)
    return Floors(looked, mean.round().astype(np.uint8), nearest, texts)


def word_vectors(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """float32 [n, words] of length 1 (0 without a known word): which words each of `texts` has, those that are in few of `names`
    counting more (Spärck Jones 1972). Retrieval by equal words, which no model takes part in."""
    known = [set(Words().ids(name, WORDS)) for name in names]
    columns = {word: column for column, word in enumerate(sorted(set().union(*known)))}
    frequency = np.zeros(len(columns))
    for words in known:
        frequency[[columns[word] for word in words]] += 1
    weight = np.log(1 + len(names) / np.maximum(frequency, 1))
    rows = np.zeros((len(texts), len(columns)), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        found = [columns[word] for word in set(Words().ids(text, WORDS)) if word in columns]
        row[found] = weight[found]
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _batches(training: Iterable[tuple[np.ndarray, str]]) -> Iterator[list[tuple[np.ndarray, str]]]:
    stream = iter(training)
    while batch := list(islice(stream, TOGETHER)):
        yield batch


def _compared(pictures: np.ndarray) -> np.ndarray:
    """float32 [n, values], about grey."""
    factor = max(1, pictures.shape[1] // COMPARED)
    side = pictures.shape[1] // factor
    cut = pictures[:, : side * factor, : side * factor].astype(np.float32)
    small = cut.reshape(len(pictures), side, factor, side, factor, 3).mean(axis=(2, 4))
    return (small - 127.5).reshape(len(pictures), -1)
