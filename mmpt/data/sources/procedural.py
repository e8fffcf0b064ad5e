"""Sequences that a simple algorithm makes, without any meaning.

sources: [{kind: procedural, count: 10000, tasks: [dyck, reverse]}]
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import pydantic

from mmpt.data.lost import Documents
from mmpt.data.sources import NamedSource
from mmpt.data.unit import Unit
from mmpt.document import Document, Text

UNIT = 10_000
"""Sequences of a unit."""
SYMBOL_BYTES = 4
"""About what a symbol takes in a shard."""
Task = Literal["dyck", "dyck_shuffle", "identity", "reverse", "sort", "unique", "union", "delete"]


class Procedural(NamedSource):
    """Balanced brackets and what simple algorithms make of random numbers, to be read before natural text (Jiang et al. 2026,
    "Procedural Pretraining", arXiv:2601.21725: 0.1 % of the tokens, Dyck languages above all).

    `dyck`: brackets of `symbols` kinds, `(3 (7 7) 3)`; `dyck_shuffle`: each kind balanced by itself, kinds crossing. The others
    are numbers, `|` and what becomes of them: themselves, backwards, in order, each once, what is in either of two lists (`,`),
    what stays of a list without a number (`,`).
    """

    tasks: tuple[Task, ...] = pydantic.Field(default=get_args(Task), min_length=1)
    """Which sequences there are, in turn."""
    count: int = pydantic.Field(ge=1)
    """How many sequences."""
    length: tuple[int, int] = (8, 64)
    """Symbols of a sequence, or brackets of one, at least and at most; brackets come in pairs."""
    symbols: int = pydantic.Field(default=100, ge=2)
    """How many numbers, or kinds of brackets, there are."""
    depth: int = pydantic.Field(default=16, ge=1)
    """Brackets that are open at one place, at most."""
    seed: int = 0
    """What the sequences are drawn with."""

    @pydantic.field_validator("length")
    @classmethod
    def _length(cls, length: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= length[0] <= length[1]:
            raise ValueError("expected two numbers, 2 or more, the second not below the first")
        return length

    def units(self) -> list[Unit[tuple[int, int]]]:
        """Runs of sequences: (first, one past the last)."""
        edges = [*range(0, self.count, UNIT), self.count]
        size = self.length[1] * SYMBOL_BYTES
        return [Unit((first, last), (last - first) * size) for first, last in zip(edges, edges[1:], strict=False)]

    def read(self, unit: Unit[tuple[int, int]]) -> Documents:
        """One document of text for each sequence."""
        source = self.name or "procedural"
        for number in range(*unit.what):
            task = self.tasks[number % len(self.tasks)]
            draw = np.random.default_rng((self.seed, number))
            text = MAKERS[task](draw, int(draw.integers(*self.length, endpoint=True)), self.symbols, self.depth)
            yield Document(f"{source}/{number:08d}", source, (Text(text),), {"task": task, "license": "CC0-1.0"})


def _dyck(draw: np.random.Generator, length: int, kinds: int, depth: int) -> str:
    written, still_open = [], []
    for left in range(2 * (length // 2), 0, -1):
        # As many places as are open are needed to close them all.
        if still_open and (len(still_open) == min(left, depth) or draw.random() < 0.5):
            written.append(f"{still_open.pop()})")
        else:
            still_open.append(int(draw.integers(kinds)))
            written.append(f"({still_open[-1]}")
    return " ".join(written)


def _dyck_shuffle(draw: np.random.Generator, length: int, kinds: int, depth: int) -> str:
    written, still_open = [], []
    for left in range(2 * (length // 2), 0, -1):
        if still_open and (len(still_open) == min(left, depth) or draw.random() < 0.5):
            written.append(f"{still_open.pop(int(draw.integers(len(still_open))))})")
        else:
            still_open.append(int(draw.integers(kinds)))
            written.append(f"({still_open[-1]}")
    return " ".join(written)


def _of_numbers(change: Callable[[list[int]], list[int]]) -> "Maker":
    def make(draw: np.random.Generator, length: int, symbols: int, depth: int) -> str:
        numbers = draw.integers(symbols, size=length).tolist()
        return f"{_row(numbers)} | {_row(change(numbers))}"

    return make


def _union(draw: np.random.Generator, length: int, symbols: int, depth: int) -> str:
    numbers = draw.integers(symbols, size=length).tolist()
    half = length // 2
    return f"{_row(numbers[:half])} , {_row(numbers[half:])} | {_row(list(dict.fromkeys(numbers)))}"


def _delete(draw: np.random.Generator, length: int, symbols: int, depth: int) -> str:
    numbers = draw.integers(symbols, size=length).tolist()
    gone = numbers[int(draw.integers(length))]
    return f"{_row(numbers)} , {gone} | {_row([number for number in numbers if number != gone])}".rstrip()


def _row(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))


Maker = Callable[[np.random.Generator, int, int, int], str]
MAKERS: dict[Task, Maker] = {
    "dyck": _dyck,
    "dyck_shuffle": _dyck_shuffle,
    "identity": _of_numbers(lambda numbers: numbers),
    "reverse": _of_numbers(lambda numbers: numbers[::-1]),
    "sort": _of_numbers(sorted),
    "unique": _of_numbers(lambda numbers: list(dict.fromkeys(numbers))),
    "union": _union,
    "delete": _delete,
}
"""Of a generator, a length, how many symbols there are, and how many brackets may be open: the text."""
