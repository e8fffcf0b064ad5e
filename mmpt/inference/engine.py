"""Many sequences written at once (continuous batching, Yu et al. 2022, "Orca"): each joins and leaves between two tokens.

Each step is one pass of the decoder over one packed row: prompts that are to be read, as many of their tokens as one pass takes,
and one token of every sequence that is being written. A sequence's tokens depend on its own prompt, settings and seed, not on
what else runs. What was computed for one that has ended may be kept for the next that begins as it did.
"""

import sys
from collections import deque
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmpt.data.loading.packing import FeatureParts
from mmpt.errors import ConfigError, DataError
from mmpt.inference.adjusting import adjusted, likely
from mmpt.inference.grammar import Grammar, Masks, check_alternate
from mmpt.inference.prefixes import Prefixes
from mmpt.inference.reading import Prompt, dealt
from mmpt.inference.rows import Piece, Row, Writing, remember
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings
from mmpt.inference.text_grammar import TextGrammars
from mmpt.model.entering import Entering
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import head_tables, hidden_states
from mmpt.model.key_values import GROWTH, KeyValues, area
from mmpt.vocabulary import Vocabulary

MAX_ROWS = 64
READ_TOKENS = 8192
"""Tokens of prompts that are read in one pass."""


class Held(NamedTuple):
    """Tokens for whose keys and values there is room now (`used`), and those of sequences that have ended (`kept`)."""

    used: int
    kept: int


class Engine:
    """`submit` sequences, then `step` until `busy` no more; `cancel` one at any time between two steps.

    At most `max_rows` run at once, those guided by a prompt-free twin counting twice while they draw, and no more than
    `kv_tokens` of keys and values can come of those that run, each counted as long as the longest may become (so the tables
    are): the others wait. A pass reads `read_tokens` of prompts at most, but for a single longer medium, which is not cut.
    `kept_tokens` of sequences that have ended are kept, as far as those that run leave room. Not safe for several threads.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        vocabulary: Vocabulary,
        inputs: FeatureInputs | None = None,
        max_rows: int = MAX_ROWS,
        kv_tokens: int | None = None,
        text_grammars: TextGrammars | None = None,
        read_tokens: int = READ_TOKENS,
        kept_tokens: int = 0,
    ) -> None:
        if kv_tokens is not None and kv_tokens < GROWTH:
            raise ConfigError(f"kv_tokens: {kv_tokens}, expected {GROWTH} at least")
        if read_tokens < 1 or kept_tokens < 0:
            raise ConfigError(f"read_tokens: {read_tokens}, kept_tokens: {kept_tokens}, expected 1 and 0 at least")
        self._room, self._most_read, self._most_kept = kv_tokens or sys.maxsize, read_tokens, kept_tokens
        self.model, self.vocabulary, self.inputs, self.max_rows = model, vocabulary, inputs, max_rows
        self._text_grammars = text_grammars
        self._masks = Masks(vocabulary, model.device)
        self.reset()
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self._opening = vocabulary.special("<|image|>")
        self._unprompted = Prompt([vocabulary.special("<|begin|>"), self._opening])

    def reset(self) -> None:
        """Forget every sequence, and what is kept of those that have ended."""
        self._waiting: deque[Writing] = deque()
        self._rows: list[Row] = []
        self._reading: list[Row] = []  # those of them of whose prompt some is left, the oldest first
        self._opened: list[Row] = []  # whose image is to be guided from the next step on
        self._cache = KeyValues()
        configs = {} if self.inputs is None else self.inputs.configs
        self._prefixes = Prefixes(self._most_kept, [kind for kind, one in configs.items() if one.enters.inside])

    @property
    def busy(self) -> bool:
        """Whether a sequence waits or runs."""
        return bool(self._waiting or self._rows)

    @property
    def held(self) -> Held:
        """What the keys and values take."""
        return Held(self._cache.size, self._prefixes.tokens)

    def submit(self, prompt: Prompt, settings: Settings) -> Writing:
        """A sequence that will be written from the next step on. Raises `DataError` where the prompt has no id, or leaves no
        room in the decoder's context, or they cannot be kept at all; where it leaves less than is asked for, so much is
        written."""
        if not prompt.ids:
            raise DataError("the prompt is empty")
        writing = Writing(prompt, self.fitted(prompt, settings))
        self._waiting.append(writing)
        return writing

    def fitted(self, prompt: Prompt, settings: Settings) -> Settings:
        """`settings` with no more new tokens than there is context after `prompt`. Raises `DataError` where there is none, and
        where text and speech in turn would cut a frame of several codebooks."""
        check_alternate(self.vocabulary, settings)
        room = self.context - len(prompt.ids) + 1  # the end is never read
        if room < 2:
            raise DataError(f"the prompt has {len(prompt.ids)} tokens, the model's context with the answer is {self.context}")
        found = settings.model_copy(update={"max_new_tokens": min(room, settings.max_new_tokens)})
        alone = Writing(prompt, found)
        if _area([alone]) > self._room:
            raise DataError(f"the prompt and its answer may become {alone.most} tokens, there is room for {self._room} in all")
        return found

    @torch.inference_mode()
    def cancel(self, writing: Writing) -> None:
        """It will get no further token, and its room is free."""
        writing.finished = True
        if writing in self._waiting:
            self._waiting.remove(writing)
        self._opened = [row for row in self._opened if row.writing is not writing]
        self._forget({writing})

    @torch.inference_mode()
    def step(self) -> list[tuple[Writing, list[int]]]:
        """One pass of the decoder: read what waits, and write the next token of every sequence. Returns (sequence, its new ids),
        those that ended among them."""
        before = {row.writing: len(row.writing.ids) for row in self._rows}
        admitted = self._admitted()
        before |= dict.fromkeys(admitted, 0)
        for writing in admitted:
            self._join(self._begun(writing))
        self._prefixes.fit(self._spare())
        for row in self._opened:
            self._join(Row(row.writing, row.grammar, self._unprompted, guide=True))
        self._opened = []
        if self._rows:
            rows, logits = self._pass(self._counts())
            self._reading = [row for row in self._reading if row not in rows]
            if rows:
                self._write(rows, self._guided(rows, logits))
        return [(writing, writing.ids[count:]) for writing, count in before.items()]

    @torch.inference_mode()
    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        """Logits [prompts, V] after each of the prompts, read in one pass by an engine that has nothing else to do."""
        for prompt in prompts:
            self._join(self._begun(Writing(prompt, Settings())))
        found = self._pass([len(prompt.ids) for prompt in prompts])[1]
        self.reset()
        return found

    def _begun(self, writing: Writing) -> Row:
        grammar, text = Grammar(self.vocabulary, writing.settings, writing.prompt.end), writing.settings.text_grammar
        held = self._text_grammars.start(text) if text is not None and self._text_grammars else None
        return Row(writing, grammar, writing.prompt, text=held)

    def _join(self, row: Row) -> None:
        """A row more, which begins with what is kept of its prompt."""
        self._rows.append(row)
        if not row.guide:
            self._reading.append(row)
        found = None if row.guide else self._prefixes.find(row.prompt)
        if found is None:
            self._cache.add(len(row.prompt.ids) + 1)
        else:
            self._cache.add(len(row.prompt.ids) + 1, found.layers, found.length)
            row.writing.reused, row.kept = found.length, dict(found.seen)

    def _admitted(self) -> list[Writing]:
        """Those that wait and for which there is room."""
        new: list[Writing] = []
        running = self._running
        while self._waiting and len(self._rows) + len(new) < self.max_rows:
            if _area([*running, *new, self._waiting[0]]) > self._room:
                break
            new.append(self._waiting.popleft())
        return new

    @property
    def _running(self) -> list[Writing]:
        return [row.writing for row in self._rows if not row.guide]

    def _spare(self) -> int:
        """Tokens that those that run leave to those that have ended."""
        return self._room - max(_area(self._running), self._cache.size)

    def _counts(self) -> list[int]:
        """How many tokens of each row the next pass takes."""
        numbers = {row: number for number, row in enumerate(self._rows)}
        # A guide reads its few tokens as its row writes on: the two go side by side.
        counts = [max(1, len(row.prompt.ids) - length) for row, length in zip(self._rows, self._cache.lengths, strict=True)]
        reading = [numbers[row] for row in self._reading]
        for number, count in zip(reading, dealt([counts[number] for number in reading], self._most_read), strict=True):
            read = self._cache.lengths[number]
            counts[number] = self._rows[number].prompt.whole(read, read + count) - read if count else 0
        return counts

    def _pass(self, counts: Sequence[int]) -> tuple[list[Row], Tensor]:
        """One pass over so many further tokens of each row: the rows whose next token can be written after it, and their logits
        [rows, V]."""
        # One packed row: what begins, then pieces and single tokens of the others, which see the keys and values kept of their
        # own past. So nothing is padded, and short prompts do not wait for long ones.
        append, device = self._cache.append(counts), self.model.device
        places = {number: place for place, number in enumerate(append.order)}
        pieces = [Piece(self._rows[row], self._cache.lengths[row], counts[row]) for row in append.order]
        edges = torch.tensor([0, *accumulate(piece.length for piece in pieces)])
        features = self._features(pieces, edges, len(append.prompts))
        hidden = hidden_states(
            self.model,
            torch.tensor([[token for piece in pieces for token in piece.ids]], device=device),
            torch.tensor([[position for piece in pieces for position in piece.positions]], device=device),
            edges,
            features,
            key_values=append,
        )[0]
        append.done()
        if features is not None:
            remember(pieces, edges, features)
        done = [n for n in sorted(places) if self._cache.lengths[n] >= len(self._rows[n].prompt.ids)]
        wanted = torch.tensor([int(edges[places[number] + 1]) - 1 for number in done], dtype=torch.int64, device=device)
        logits = torch.cat([F.linear(hidden[wanted], table) for table in head_tables(self.model)], dim=-1)
        return [self._rows[number] for number in done], logits

    def _features(self, pieces: Sequence[Piece], borders: Tensor, begun: int) -> Entering | None:
        """What media bring into a pass over `pieces`, of which the first `begun` see themselves alone."""
        if self.inputs is None:
            return None
        seen = [{kind for kind, *_ in piece.row.prompt.media} for piece in pieces]
        parts = FeatureParts()
        for piece, edge in zip(pieces, borders.tolist(), strict=False):
            for kind, places, value in piece.row.prompt.media:
                if piece.start <= places[0] < piece.start + piece.length:
                    parts.add(kind, places + (edge - piece.start), value, self.inputs.counted[kind].shares(len(value)))
        features = {kind: one.to(self.model.device) for kind, one in parts.joined().items()}
        kept = [piece.row.memories for piece in pieces[begun:]]
        return self.inputs(features, borders, seen, kept)[0] if features else self.inputs.going_on(borders, seen, kept)

    def _guided(self, rows: Sequence[Row], logits: Tensor) -> Tensor:
        """Logits of the rows, those with a guide moved away from it."""
        guides = {row.writing: number for number, row in enumerate(rows) if row.guide}
        for number, row in enumerate(rows):
            if not row.guide and row.writing in guides:
                free = logits[guides[row.writing]]
                logits[number] = free + row.writing.settings.guidance * (logits[number] - free)
        return logits

    def _write(self, read: Sequence[Row], logits: Tensor) -> None:
        """Choose the next token of each sequence, by the logits of the rows `read`."""
        rows = [(number, row) for number, row in enumerate(read) if not row.guide]
        forbidden = torch.stack([self._masks.forbidden(row.grammar.allowed(), row.grammar.end) for _, row in rows])
        for place, (_, row) in enumerate(rows):
            if row.text is not None:
                row.text.forbid(forbidden[place], row.grammar.end)
        samplers = [row.writing.settings.sampler(row.grammar.inside or "text") for _, row in rows]
        if len(rows) < len(read):
            logits = logits[[number for number, _ in rows]]
        writings = [row.writing for _, row in rows]
        moved = adjusted(logits, [one.settings for one in writings], [one.ids for one in writings])
        chosen = choose(moved, forbidden, samplers, [one.generator for one in writings])
        _tell(logits, chosen, [row for _, row in rows])
        pending: dict[Writing, int] = {}
        for (_, row), token in zip(rows, chosen, strict=True):
            row.grammar.advance(token)
            if row.text is not None and token != row.grammar.end:
                row.text.advance(token)
            row.pending = pending[row.writing] = token
            if token != row.grammar.end:
                row.writing.ids.append(token)
            row.writing.finished = row.grammar.finished
            # Its guide begins one step later with `<|begin|><|image|>`: by then the row itself has just seen its `<|image|>`.
            if token == self._opening and row.writing.settings.guidance != 1.0:
                self._opened.append(row)
        # A guide reads what was written with the prompt: the same codes, without what was asked.
        for row in read:
            row.pending = pending[row.writing]
        closed = {row.writing for _, row in rows if row.grammar.inside != "image"}
        self._forget({row.writing for _, row in rows if row.writing.finished}, closed)

    def _forget(self, gone: set[Writing], unguided: Collection[Writing] = ()) -> None:
        """Free the rows of `gone`, of which what was read is kept, and the guides of `unguided`."""
        self._reading = [row for row in self._reading if row.writing not in gone]
        ended = []
        for number in reversed(range(len(self._rows))):
            row = self._rows[number]
            if row.writing in gone or (row.guide and row.writing in unguided):
                length = self._cache.lengths[number]
                if not row.guide and self._prefixes.wants(length, self._room):
                    ended.append((row, length, self._cache.copied(number)))
                # The last row takes the free place, here as in the cache: nothing else moves.
                self._cache.remove(number)
                last = self._rows.pop()
                if number < len(self._rows):
                    self._rows[number] = last
        for row, length, layers in ended:
            ids = [*row.prompt.ids, *row.writing.ids][:length]
            self._prefixes.keep(row.prompt, ids, layers, row.kept, self._spare())


def _area(writings: Sequence[Writing]) -> int:
    """Tokens for which there must be room so that they can all be written to their end."""
    return area(sum(one.rows for one in writings), max((one.most for one in writings), default=0))


def _tell(logits: Tensor, chosen: Sequence[int], rows: Sequence[Row]) -> None:
    """Keep how likely the tokens `chosen` were by `logits` [rows, V], of those rows that ask for it."""
    for place, (token, row) in enumerate(zip(chosen, rows, strict=True)):
        most = row.writing.settings.logprobs
        if most is not None and token != row.grammar.end:
            row.writing.likely += likely(logits[place : place + 1], [token], most)


def write_all(engine: Engine, prompts: Sequence[Prompt], settings: Sequence[Settings]) -> list[list[int]]:
    """The ids that follow each prompt, up to and without the end."""
    written = [engine.submit(prompt, one) for prompt, one in zip(prompts, settings, strict=True)]
    while engine.busy:
        engine.step()
    return [writing.ids for writing in written]
