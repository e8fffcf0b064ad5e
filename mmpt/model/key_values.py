"""Keys and values of sequences that are being written, so that each further token costs one row of the decoder.

A forward pass stays what it is in training, one packed row [1, T]: whole prompts one after the other (prepacking, Zhao et al.
2024, arXiv:2404.09529), and behind them one new token of every running sequence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

GROWTH = 256
"""Tokens by which the tables grow."""
SPARE = 4
"""Tables of so many times what is needed are given back for smaller ones."""


def area(rows: int, tokens: int) -> int:
    """Tokens for which tables of so many rows of so many tokens have room."""
    return rows * _up(tokens, GROWTH)


class KeyValues:
    """Row r of every layer's tables [rows, heads, tokens, D] holds the first `lengths[r]` tokens of running sequence r."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def append(self, prompts: Sequence[int] = ()) -> "Append":
        """For a pass over `prompts` of so many tokens, which become the next rows, and then one token of each row there is."""
        return Append(self, tuple(prompts))

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its number."""
        last = len(self.lengths) - 1
        if row != last:
            for table in self._tables.values():
                for part in table:
                    if last < len(part):  # a layer that not every pass runs through has seen fewer rows
                        part[row] = part[last]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        self._give_back()

    def _give_back(self) -> None:
        """Of a long sequence that is gone nothing is kept."""
        rows, tokens = len(self.lengths), _up(max(self.lengths, default=0) + 1, GROWTH)
        for layer, table in self._tables.items():
            most = table[0].shape[0] * table[0].shape[2]
            if most > SPARE * max(1, rows) * tokens:
                keys, values = (part[:rows, :, :tokens].clone() for part in table)
                self._tables[layer] = keys, values

    def tables(self, layer: int, rows: int, tokens: int, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The tables of a layer, with room for so many rows and tokens; `like` [1, heads, T, D] each."""
        found = self._tables.get(layer)
        if found is None or found[0].shape[0] < rows or found[0].shape[2] < tokens:
            old = found or (like[0][:0, :, :0], like[1][:0, :, :0])
            # In steps, so that tables are copied once in many tokens, and no larger than what runs needs; zeros, since what
            # no row has written is read (and masked).
            tokens = _up(tokens, GROWTH)
            keys, values = (part.new_zeros(rows, part.shape[1], tokens, part.shape[3]) for part in like)
            found = keys, values
            for table, part in zip(found, old, strict=True):
                kept = part[:rows, :, :tokens]
                table[: kept.shape[0], :, : kept.shape[2]] = kept
            self._tables[layer] = found
        return found


class Append:
    """What one pass adds to `KeyValues`; call `done` after it."""

    def __init__(self, cache: KeyValues, prompts: tuple[int, ...]) -> None:
        self.cache, self.prompts, self.rows = cache, prompts, len(cache)
        self.prompt_tokens = sum(prompts)
        self._mask: dict[tuple, Tensor] = {}
        self._lengths: Tensor | None = None

    def done(self) -> None:
        """The pass went through all layers."""
        self.cache.lengths = [*(length + 1 for length in self.cache.lengths), *self.prompts]

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep `key` and `value` [1, heads, prompt_tokens, D] of the prompts, which attend to themselves alone."""
        longest, rows, start = max((*self.prompts, *self.cache.lengths)), self.rows + len(self.prompts), 0
        tables = self.cache.tables(layer, rows, longest + 1, (key, value))
        for row, length in enumerate(self.prompts, start=self.rows):
            for table, part in zip(tables, (key, value), strict=True):
                table[row, :, :length] = part[0, :, start : start + length]
            start += length

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[1, heads, rows, D] of one new token of each row, `query` [1, heads, rows, D], which sees all of its row."""
        longest = max(self.cache.lengths) + 1
        keys, values = self.cache.tables(layer, self.rows, longest, (key, value))
        if self._lengths is None:  # the same for all layers: made at the first
            self._lengths = torch.tensor(self.cache.lengths, device=query.device)
        numbers = torch.arange(self.rows, device=query.device)
        # Row r's new token goes behind its own past, wherever that ends.
        keys[numbers, :, self._lengths] = key[0].transpose(0, 1)
        values[numbers, :, self._lengths] = value[0].transpose(0, 1)
        found = F.scaled_dot_product_attention(
            query[0].transpose(0, 1).unsqueeze(2),
            keys[: self.rows, :, :longest],
            values[: self.rows, :, :longest],
            attn_mask=self._seen(self._lengths, longest, window),
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found.squeeze(2).transpose(0, 1).unsqueeze(0)

    def _seen(self, lengths: Tensor, longest: int, window: int | None) -> Tensor:
        """bool [rows, 1, 1, longest]; the same for all layers of a kind."""
        if (longest, window) not in self._mask:
            places = torch.arange(longest, device=lengths.device)
            seen = places <= lengths.unsqueeze(1)
            if window is not None:
                seen &= places > lengths.unsqueeze(1) - window
            self._mask[longest, window] = seen[:, None, None]
        return self._mask[longest, window]


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
