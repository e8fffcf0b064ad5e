"""Many sequences written at once (continuous batching, Yu et al. 2022, "Orca"): each joins and leaves between two tokens.

Prompts that wait are read together as one packed row; then every running sequence gets its next token in one pass of the decoder.
A sequence's tokens depend on its own prompt, settings and seed, not on what else runs.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmpt.data.loading.packing import Features
from mmpt.errors import DataError
from mmpt.inference.grammar import Grammar, Masks
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import head_tables, hidden_states
from mmpt.model.key_values import Append, KeyValues
from mmpt.vocabulary import Vocabulary

MAX_ROWS = 64
MAX_PROMPT_TOKENS = 8192
"""Tokens of waiting prompts that are read in one pass; a longer prompt goes alone."""


@dataclass(frozen=True)
class Prompt:
    """`ids`, and of the media that enter as features the (kind, start, input of the encoder) of each."""

    ids: list[int]
    media: tuple[tuple[str, int, Tensor], ...] = ()


@dataclass(eq=False)
class Writing:
    """A sequence on its way: `ids` written so far, without `<|end|>`; `finished` once there will be no more."""

    prompt: Prompt
    settings: Settings
    ids: list[int] = field(default_factory=list)
    finished: bool = False

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.settings.seed)


@dataclass(eq=False)
class _Row:
    """A row of the cache: the sequence itself, or what its pictures would be without the prompt (`guide`). `pending`: the token
    that the decoder has not seen yet."""

    writing: Writing
    grammar: Grammar
    pending: int = -1
    guide: bool = False


class Engine:
    """`submit` sequences, then `step` until `busy` no more; `cancel` one at any time between two steps.

    At most `max_rows` run at once, those guided by a prompt-free twin counting twice while they draw. Not safe for several
    threads.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        vocabulary: Vocabulary,
        inputs: FeatureInputs | None = None,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.model, self.vocabulary, self.inputs, self.max_rows = model, vocabulary, inputs, max_rows
        self._masks = Masks(vocabulary, model.device)
        self.reset()
        self._end, self._opening = vocabulary.special("<|end|>"), vocabulary.special("<|image|>")

    def reset(self) -> None:
        """Forget every sequence."""
        self._waiting: deque[Writing] = deque()
        self._rows: list[_Row] = []
        self._cache = KeyValues()

    @property
    def busy(self) -> bool:
        """Whether a sequence waits or runs."""
        return bool(self._waiting or self._rows)

    def submit(self, prompt: Prompt, settings: Settings) -> Writing:
        """A sequence that will be written from the next step on. Raises `DataError` where the prompt has no id."""
        if not prompt.ids:
            raise DataError("the prompt is empty")
        writing = Writing(prompt, settings)
        self._waiting.append(writing)
        return writing

    @torch.inference_mode()
    def cancel(self, writing: Writing) -> None:
        """It will get no further token, and its room is free."""
        writing.finished = True
        if writing in self._waiting:
            self._waiting.remove(writing)
        self._forget({writing})

    @torch.inference_mode()
    def step(self) -> list[tuple[Writing, list[int]]]:
        """Begin what waits, and write the next token of each running sequence: (sequence, its new ids), those that ended among
        them."""
        before = {row.writing: len(row.writing.ids) for row in self._rows}
        while new := self._admitted():
            before |= dict.fromkeys(new, 0)
            logits = self._read([writing.prompt for writing in new])
            rows = [_Row(writing, Grammar(self.vocabulary, writing.settings)) for writing in new]
            self._rows += rows
            self._write(rows, logits)
        if self._rows:
            logits = self._advance([row.pending for row in self._rows])
            writers = [(number, row) for number, row in enumerate(self._rows) if not row.guide]
            self._write([row for _, row in writers], self._guided(logits)[[number for number, _ in writers]])
        return [(writing, writing.ids[count:]) for writing, count in before.items()]

    def _admitted(self) -> list[Writing]:
        """Those that wait and for which there is room."""
        new: list[Writing] = []
        tokens = 0
        while self._waiting and len(self._rows) + len(new) < self.max_rows:
            tokens += len(self._waiting[0].prompt.ids)
            if new and tokens > MAX_PROMPT_TOKENS:
                break
            new.append(self._waiting.popleft())
        return new

    def _read(self, prompts: Sequence[Prompt]) -> Tensor:
        """Logits [prompts, V] after each of the prompts, whose keys and values become the next rows of the cache."""
        lengths = [len(prompt.ids) for prompt in prompts]
        features = self._features(prompts, lengths)
        ids = torch.tensor([[token for prompt in prompts for token in prompt.ids]], device=self.model.device)
        positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(self.model.device)
        hidden = self._pass(ids, positions, lengths, self._cache.prompts(lengths), features)
        return self._logits(hidden[torch.tensor(lengths).cumsum(0) - 1])

    def _advance(self, tokens: Sequence[int]) -> Tensor:
        """Logits [rows, V] after one more token of each row."""
        ids = torch.tensor([tokens], device=self.model.device)
        positions = torch.tensor([self._cache.lengths], device=self.model.device)
        return self._logits(self._pass(ids, positions, [1] * len(tokens), self._cache.tokens()))

    def _pass(
        self,
        ids: Tensor,
        positions: Tensor,
        lengths: Sequence[int],
        append: Append,
        features: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        edges = torch.tensor([0, *lengths]).cumsum(0)
        hidden = hidden_states(self.model, ids, positions, edges, features, key_values=append)[0]
        append.done()
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        return torch.cat([F.linear(hidden, table) for table in head_tables(self.model)], dim=-1)

    def _features(self, prompts: Sequence[Prompt], lengths: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        found: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        edge = 0
        for prompt, length in zip(prompts, lengths, strict=True):
            for kind, start, value in prompt.media:
                places, inputs = found.setdefault(kind, ([], []))
                places.append(torch.arange(self.inputs.rows[kind]) + edge + start)
                inputs.append(value)
            edge += length
        if not found:
            return None
        device = self.model.device
        return self.inputs(
            {kind: Features(torch.cat(p).to(device), torch.stack(i).to(device)) for kind, (p, i) in found.items()}
        )[0]

    def _guided(self, logits: Tensor) -> Tensor:
        """Logits of the rows, those with a guide moved away from it."""
        guides = {row.writing: number for number, row in enumerate(self._rows) if row.guide}
        for number, row in enumerate(self._rows):
            if not row.guide and row.writing in guides:
                free = logits[guides[row.writing]]
                logits[number] = free + row.writing.settings.guidance * (logits[number] - free)
        return logits

    def _write(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Choose the next token of each of `rows`, which are no guides."""
        allowed = [row.grammar.allowed() for row in rows]
        forbidden = torch.stack([self._masks.forbidden(names) for names in allowed])
        sampling = [row.writing.settings.sampling(row.grammar.inside or "text") for row in rows]
        chosen = choose(logits, forbidden, sampling, [row.writing.generator for row in rows])
        pending, opened = {}, []
        for row, token in zip(rows, chosen, strict=True):
            row.grammar.advance(token)
            row.pending = pending[row.writing] = token
            if token != self._end:
                row.writing.ids.append(token)
            row.writing.finished = row.grammar.finished
            if token == self._opening and row.writing.settings.guidance != 1.0:
                opened.append(row)
        closed = {row.writing for row in rows if row.grammar.inside != "image"}
        self._forget({row.writing for row in rows if row.writing.finished}, closed)
        for row in self._rows:
            if row.guide:
                row.pending = pending.get(row.writing, row.pending)
        if opened:
            self._read([Prompt([self.vocabulary.special("<|begin|>")])] * len(opened))
            self._rows += [_Row(row.writing, row.grammar, row.pending, guide=True) for row in opened]

    def _forget(self, gone: set[Writing], unguided: set[Writing] = frozenset()) -> None:
        """Free the rows of `gone`, and the guides of `unguided`."""
        for number in reversed(range(len(self._rows))):
            row = self._rows[number]
            if row.writing in gone or (row.guide and row.writing in unguided):
                self._cache.remove(number)
                last = self._rows.pop()
                if number < len(self._rows):
                    self._rows[number] = last


def write_all(engine: Engine, prompts: Sequence[Prompt], settings: Sequence[Settings]) -> list[list[int]]:
    """The ids that follow each prompt, up to and without `<|end|>`."""
    written = [engine.submit(prompt, one) for prompt, one in zip(prompts, settings, strict=True)]
    while engine.busy:
        engine.step()
    return [writing.ids for writing in written]
