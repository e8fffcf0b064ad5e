"""Keys and values of sequences that are being written, so that each further token costs one row of the decoder.

A forward pass stays what it is in training, one packed row [1, T]: whole prompts one after the other (prepacking, Zhao et al.
2024, arXiv:2404.09529), and behind them one new token of every running sequence. A prompt may also come in
pieces, of which each further one sees what was kept of those before it (chunked prefill, Agrawal et al. 2023, "Sarathi",
arXiv:2308.16369).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

GROWTH = 256
"""Tokens by which the tables grow."""
SPARE = 4
"""Tables of so many times what is needed are given back for smaller ones."""

Layers = Mapping[int, tuple[Tensor, Tensor]]
"""Keys and values of one sequence by layer, [heads, tokens, D] each."""


def area(rows: int, tokens: int) -> int:
    """Tokens for which tables of so many rows of so many tokens have room."""
    return rows * _up(tokens, GROWTH)


class KeyValues:
    """Row r of every layer's tables [rows, heads, tokens, D] holds the first `lengths[r]` tokens of running sequence r. They have
    room for the `expected[r]` that it is known to come to, so that those of a prompt read in pieces are made once."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.expected: list[int] = []
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def size(self) -> int:
        """Tokens for which the tables have room."""
        return max((keys.shape[0] * keys.shape[2] for keys, _ in self._tables.values()), default=0)

    def add(self, expected: int, kept: Layers = MappingProxyType({}), length: int = 0) -> None:
        """A row behind the others, which begins with the first `length` tokens of what was `kept`."""
        self.lengths.append(length)
        self.expected.append(expected)
        for layer, parts in kept.items():
            keys, values = (part[None, :, :length] for part in parts)
            for table, part in zip(self.tables(layer, (keys, values)), (keys, values), strict=True):
                table[len(self) - 1, :, : part.shape[2]] = part[0]

    def copied(self, row: int) -> Layers:
        """What a row holds."""
        length = self.lengths[row]
        return {
            # a layer that not every pass runs through has seen fewer rows
            layer: (keys[row, :, :length].clone(), values[row, :, :length].clone())
            for layer, (keys, values) in self._tables.items()
            if row < len(keys)
        }

    def append(self, counts: Sequence[int]) -> "Append":
        """For a pass over so many further tokens of each row."""
        return Append(self, tuple(counts))

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its number."""
        last = len(self.lengths) - 1
        if row != last:
            for table in self._tables.values():
                for part in table:
                    if last < len(part):
                        part[row] = part[last]
        for numbers in (self.lengths, self.expected):
            numbers[row] = numbers[last]
            numbers.pop()
        self._give_back()

    def _give_back(self) -> None:
        """Of a long sequence that is gone nothing is kept."""
        if not self.lengths:
            self._tables.clear()
        rows, tokens = len(self.lengths), self._tokens()
        for layer, table in self._tables.items():
            most = table[0].shape[0] * table[0].shape[2]
            if most > SPARE * rows * tokens:
                keys, values = (part[:rows, :, :tokens].clone() for part in table)
                self._tables[layer] = keys, values

    def _tokens(self) -> int:
        return _up(max((*(length + 1 for length in self.lengths), *self.expected), default=0), GROWTH)

    def tables(self, layer: int, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The tables of a layer, with room for all rows and for what they are about to hold; `like` [1, heads, T, D] each."""
        found, rows, tokens = self._tables.get(layer), len(self), self._tokens()
        if found is None or found[0].shape[0] < rows or found[0].shape[2] < tokens:
            old = found or (like[0][:0, :, :0], like[1][:0, :, :0])
            # In steps, so that tables are copied once in many tokens, and no larger than what runs needs; zeros, since what
            # no row has written is read (and masked).
            keys, values = (part.new_zeros(rows, part.shape[1], tokens, part.shape[3]) for part in like)
            found = keys, values
            for table, part in zip(found, old, strict=True):
                kept = part[:rows, :, :tokens]
                table[: kept.shape[0], :, : kept.shape[2]] = kept
            self._tables[layer] = found
        return found


class Append:
    """What one pass adds to `KeyValues`; call `done` after it.

    `order`: the rows as their tokens stand in the packed row. First those that begin, `prompts` tokens each, which see themselves
    alone; then those that go on: pieces of several tokens, and at last the single ones.
    """

    def __init__(self, cache: KeyValues, counts: tuple[int, ...]) -> None:
        self.cache, self.counts = cache, counts
        begun = [row for row, count in enumerate(counts) if count and not cache.lengths[row]]
        self._pieces = [row for row, count in enumerate(counts) if count > 1 and cache.lengths[row]]
        self._single = [row for row, count in enumerate(counts) if count == 1 and cache.lengths[row]]
        self._begun, self.order = begun, [*begun, *self._pieces, *self._single]
        self.prompts = tuple(counts[row] for row in begun)
        self.prompt_tokens = sum(self.prompts)
        self.rows = len(self._pieces) + len(self._single)
        self._made: dict[object, Tensor] = {}

    def done(self) -> None:
        """The pass went through all layers."""
        self.cache.lengths = [length + count for length, count in zip(self.cache.lengths, self.counts, strict=True)]

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep `key` and `value` [1, heads, prompt_tokens, D] of the rows that begin."""
        tables, start = self.cache.tables(layer, (key, value)), 0
        for row, length in zip(self._begun, self.prompts, strict=True):
            for table, part in zip(tables, (key, value), strict=True):
                table[row, :, :length] = part[0, :, start : start + length]
            start += length

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[1, heads, N, D] of the tokens of rows that go on, `query` [1, heads, N, D]; each sees its row up to itself."""
        tables = self.cache.tables(layer, (key, value))
        parts, start, grouped = [], 0, query.shape[1] != key.shape[1]
        for row in self._pieces:
            past, end = self.cache.lengths[row], self.cache.lengths[row] + self.counts[row]
            own = slice(start, start := start + self.counts[row])
            for table, part in zip(tables, (key, value), strict=True):
                table[row, :, past:end] = part[0, :, own]
            keys, values = (table[row : row + 1, :, :end] for table in tables)
            places = torch.arange(past, end)
            mask = self._once(("piece", row, window), lambda places=places, end=end: _seen(places, end, window), query)
            parts.append(F.scaled_dot_product_attention(query[:, :, own], keys, values, mask, scale=scale, enable_gqa=grouped))
        if self._single:
            query, key, value = (part[0, :, start:].transpose(0, 1) for part in (query, key, value))
            parts.append(self._one_each(tables, query, key, value, scale, window, grouped))
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]

    def _one_each(self, tables, query: Tensor, key: Tensor, value: Tensor, scale, window: int | None, grouped: bool) -> Tensor:
        """[1, heads, rows, D] of one token of each row, `query` [rows, heads, D]."""
        rows = self._once("rows", lambda: torch.tensor(self._single), query)
        lengths = self._once("lengths", lambda: torch.tensor(self.cache.lengths)[self._single], query)
        # Row r's new token goes behind its own past, wherever that ends.
        for table, part in zip(tables, (key, value), strict=True):
            table[rows, :, lengths] = part
        longest, count = 1 + max(self.cache.lengths[row] for row in self._single), 1 + self._single[-1]
        whole = count == len(self._single)
        if not whole:  # rows between them that are still being read come along, since a choice of rows would copy the tables
            query = query.new_zeros(count, *query.shape[1:]).index_copy(0, rows, query)
            lengths = lengths.new_zeros(count).index_copy(0, rows, lengths)
        mask = self._once(("single", window), lambda: _seen(lengths, longest, window)[:, None, None], query)
        keys, values = (table[:count, :, :longest] for table in tables)
        found = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values, mask, scale=scale, enable_gqa=grouped).squeeze(2)
        return (found if whole else found[rows]).transpose(0, 1).unsqueeze(0)

    def _once(self, name: object, make: Callable[[], Tensor], like: Tensor) -> Tensor:
        """The same for all layers (of a kind): made at the first."""
        if name not in self._made:
            self._made[name] = make().to(like.device)
        return self._made[name]


def _seen(positions: Tensor, longest: int, window: int | None) -> Tensor:
    """bool [tokens, longest]: what tokens at `positions` see of their row."""
    places = torch.arange(longest, device=positions.device)
    seen = places <= positions.unsqueeze(1)
    if window is not None:
        seen &= places > positions.unsqueeze(1) - window
    return seen


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
