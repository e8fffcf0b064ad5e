"""Many sequences written at once (continuous batching, Yu et al. 2022, "Orca"): each joins and leaves between two tokens.

Each step is one pass of the decoder over one packed row: the prompts that wait, and one token of every running sequence. A
sequence's tokens depend on its own prompt, settings and seed, not on what else runs.
"""

import sys
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmpt.data.loading.packing import FeatureParts
from mmpt.errors import ConfigError, DataError
from mmpt.inference.adjusting import Likely, adjusted, likely
from mmpt.inference.grammar import Grammar, Masks, check_alternate
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings
from mmpt.inference.text_grammar import TextGrammar, TextGrammars
from mmpt.modality import Medium
from mmpt.model.entering import Entering, Memory
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import head_tables, hidden_states
from mmpt.model.key_values import GROWTH, KeyValues, area
from mmpt.vocabulary import Vocabulary

MAX_ROWS = 64
MAX_PROMPT_TOKENS = 8192
"""Tokens of waiting prompts that are read in one pass; a longer prompt goes alone."""


@dataclass(frozen=True)
class Prompt:
    """`ids`, and of the media that enter as features the (kind, places of the slots, inputs of the encoder view by view) of
    each. `end`: the id that ends the answer, None: `<|end|>`."""

    ids: list[int]
    media: tuple[tuple[Medium, np.ndarray, Tensor], ...] = ()
    end: int | None = None


@dataclass(eq=False)
class Writing:
    """A sequence on its way: `ids` written so far, without its end; `finished` once there will be no more. `likely`: of each id,
    where the settings ask for `logprobs`."""

    prompt: Prompt
    settings: Settings
    ids: list[int] = field(default_factory=list)
    finished: bool = False
    likely: list[Likely] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.settings.seed)

    @property
    def rows(self) -> int:
        """Of the cache at most: its own, and that of its guide."""
        return 1 if self.settings.guidance == 1.0 else 2

    @property
    def most(self) -> int:
        """Tokens that it will be at most."""
        return len(self.prompt.ids) + self.settings.max_new_tokens


@dataclass(eq=False)
class _Row:
    """A row of the cache: the sequence itself, or what its pictures would be without the prompt (`guide`). It begins with
    `prompt`; `pending` is the token that the decoder has not seen yet."""

    writing: Writing
    grammar: Grammar
    prompt: Prompt
    pending: int = -1
    guide: bool = False
    text: TextGrammar | None = None
    kept: dict[str, Memory] = field(default_factory=dict)
    """What layers inside the decoder go on attending to, by the kind of media."""


class Engine:
    """`submit` sequences, then `step` until `busy` no more; `cancel` one at any time between two steps.

    At most `max_rows` run at once, those guided by a prompt-free twin counting twice while they draw, and no more than
    `kv_tokens` of keys and values can come of those that run, each counted as long as the longest may become (so the tables
    are): the others wait. Not safe for several threads.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        vocabulary: Vocabulary,
        inputs: FeatureInputs | None = None,
        max_rows: int = MAX_ROWS,
        kv_tokens: int | None = None,
        text_grammars: TextGrammars | None = None,
    ) -> None:
        if kv_tokens is not None and kv_tokens < GROWTH:
            raise ConfigError(f"kv_tokens: {kv_tokens}, expected {GROWTH} at least")
        self._room = kv_tokens or sys.maxsize
        self.model, self.vocabulary, self.inputs, self.max_rows = model, vocabulary, inputs, max_rows
        self._text_grammars = text_grammars
        self._masks = Masks(vocabulary, model.device)
        self.reset()
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self._opening = vocabulary.special("<|image|>")
        self._unprompted = Prompt([vocabulary.special("<|begin|>"), self._opening])

    def reset(self) -> None:
        """Forget every sequence."""
        self._waiting: deque[Writing] = deque()
        self._rows: list[_Row] = []
        self._opened: list[_Row] = []  # whose image is to be guided from the next step on
        self._cache = KeyValues()

    @property
    def busy(self) -> bool:
        """Whether a sequence waits or runs."""
        return bool(self._waiting or self._rows)

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
        if area(alone.rows, alone.most) > self._room:
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
        new = [self._begun(writing) for writing in admitted]
        new += [_Row(row.writing, row.grammar, self._unprompted, guide=True) for row in self._opened]
        self._opened = []
        if new or self._rows:
            logits, features = self._pass([row.prompt for row in new], [row.pending for row in self._rows])
            _keep(new, features)
            self._rows += new
            self._write(self._guided(logits))
        return [(writing, writing.ids[count:]) for writing, count in before.items()]

    def _begun(self, writing: Writing) -> _Row:
        grammar, text = Grammar(self.vocabulary, writing.settings, writing.prompt.end), writing.settings.text_grammar
        held = self._text_grammars.start(text) if text is not None and self._text_grammars else None
        return _Row(writing, grammar, writing.prompt, text=held)

    def _admitted(self) -> list[Writing]:
        """Those that wait and for which there is room."""
        new: list[Writing] = []
        tokens = 0
        running = [row.writing for row in self._rows if not row.guide]
        rows, longest = sum(one.rows for one in running), max((one.most for one in running), default=0)
        while self._waiting and len(self._rows) + len(new) < self.max_rows:
            first = self._waiting[0]
            tokens += len(first.prompt.ids)
            rows, longest = rows + first.rows, max(longest, first.most)
            if (new and tokens > MAX_PROMPT_TOKENS) or area(rows, longest) > self._room:
                break
            new.append(self._waiting.popleft())
        return new

    def _pass(self, prompts: Sequence[Prompt], tokens: Sequence[int] = ()) -> tuple[Tensor, Entering | None]:
        """(Logits [rows + prompts, V] after one more token of each row, and after each of the prompts, which become rows; what
        the media of the prompts brought into the pass)."""
        lengths, device = [len(prompt.ids) for prompt in prompts], self.model.device
        ids = [token for prompt in prompts for token in prompt.ids]
        positions = [position for length in lengths for position in range(length)]
        ends, edges = [*accumulate(lengths)], [0, *accumulate([*lengths, *[1] * len(tokens)])]
        # One packed row: the prompts whole, then one token of each running row, which sees the keys and values kept of its own
        # past. So nothing is padded, and short prompts do not wait for long ones.
        append, features = self._cache.append(lengths), self._features(prompts, lengths, torch.tensor(edges))
        hidden = hidden_states(
            self.model,
            torch.tensor([[*ids, *tokens]], device=device),
            torch.tensor([[*positions, *self._cache.lengths]], device=device),
            torch.tensor(edges),
            features,
            key_values=append,
        )[0]
        append.done()
        # Running rows first, as `_rows` has them; the prompts become the rows after them.
        wanted = torch.tensor([*range(len(ids), len(ids) + len(tokens)), *(end - 1 for end in ends)], device=device)
        return torch.cat([F.linear(hidden[wanted], table) for table in head_tables(self.model)], dim=-1), features

    def _features(self, prompts: Sequence[Prompt], lengths: Sequence[int], borders: Tensor) -> Entering | None:
        if self.inputs is None:
            return None
        seen = [{kind for kind, *_ in prompt.media} for prompt in (*prompts, *(row.prompt for row in self._rows))]
        parts = FeatureParts()
        edge = 0  # where the prompt begins in the packed row
        for prompt, length in zip(prompts, lengths, strict=True):
            for kind, places, value in prompt.media:
                parts.add(kind, places + edge, value, self.inputs.counted[kind].shares(len(value)))
            edge += length
        features = {kind: one.to(self.model.device) for kind, one in parts.joined().items()}
        kept = [row.kept for row in self._rows]
        return self.inputs(features, borders, seen, kept)[0] if features else self.inputs.going_on(borders, seen, kept)

    def _guided(self, logits: Tensor) -> Tensor:
        """Logits of the rows, those with a guide moved away from it."""
        guides = {row.writing: number for number, row in enumerate(self._rows) if row.guide}
        for number, row in enumerate(self._rows):
            if not row.guide and row.writing in guides:
                free = logits[guides[row.writing]]
                logits[number] = free + row.writing.settings.guidance * (logits[number] - free)
        return logits

    def _write(self, logits: Tensor) -> None:
        """Choose the next token of each sequence."""
        rows = [(number, row) for number, row in enumerate(self._rows) if not row.guide]
        forbidden = torch.stack([self._masks.forbidden(row.grammar.allowed(), row.grammar.end) for _, row in rows])
        for place, (_, row) in enumerate(rows):
            if row.text is not None:
                row.text.forbid(forbidden[place], row.grammar.end)
        samplers = [row.writing.settings.sampler(row.grammar.inside or "text") for _, row in rows]
        if len(rows) < len(self._rows):
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
        for row in self._rows:
            row.pending = pending[row.writing]
        closed = {row.writing for _, row in rows if row.grammar.inside != "image"}
        self._forget({row.writing for _, row in rows if row.writing.finished}, closed)

    def _forget(self, gone: set[Writing], unguided: Collection[Writing] = ()) -> None:
        """Free the rows of `gone`, and the guides of `unguided`."""
        for number in reversed(range(len(self._rows))):
            row = self._rows[number]
            if row.writing in gone or (row.guide and row.writing in unguided):
                # The last row takes the free place, here as in the cache: nothing else moves.
                self._cache.remove(number)
                last = self._rows.pop()
                if number < len(self._rows):
                    self._rows[number] = last


def _keep(new: Sequence[_Row], features: Entering | None) -> None:
    """Give each of the `new` rows its share of what layers inside the decoder have attended to in the pass over their prompts."""
    memories = {} if features is None else features.memories
    for kind in memories:
        counts = [sum(len(value) for own, _, value in row.prompt.media if own == kind) for row in new]
        for row, count, end in zip(new, counts, accumulate(counts), strict=True):
            if count:
                row.kept[kind] = memories[kind][0].memory.part(end - count, end)


def _tell(logits: Tensor, chosen: Sequence[int], rows: Sequence[_Row]) -> None:
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
