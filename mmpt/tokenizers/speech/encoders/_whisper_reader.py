"""Whisper's text decoder, as what reads codes."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

from mmpt.errors import DataError
from mmpt.layers.masks import length_mask
from mmpt.tokenizers.speech.encoders._whisper_rows import first_of
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.lessons import Lesson
from mmpt.tokenizers.speech.recognizer import TextDecoder
from mmpt.tokenizers.terms import Term

# transformers 5.2x renamed it, and will stop taking the older name.
CACHE = "cache" if "cache" in signature(WhisperDecoderLayer.forward).parameters else "past_key_values"


class WhisperReader(TextDecoder):
    """Whisper's text decoder, with the padding of what it reads masked.

    `head`: the table of the logits, where the checkpoint has one of its own; None where, as in OpenAI's, the token table is it.
    """

    def __init__(self, shape: Whisper, model: WhisperForConditionalGeneration):
        super().__init__()
        self.decoder = model.model.decoder
        known: Any = model.config  # what transformers says of its fields is wider than what a checkpoint holds
        self.head: nn.Linear | None = None if known.tie_word_embeddings else model.proj_out
        self.prompt = [int(token) for token in shape.prompt]  # ids since `settled`
        self.end = int(known.eos_token_id)
        self.never, self.never_first = list(shape.never), list(shape.never_first)
        self.most_tokens = self.decoder.max_target_positions - len(self.prompt)

    def forward(self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the next token [B, L, vocabulary] after each of `ids` [B, L], given `states` [B, C, dim] of `lengths` [B]."""
        return self._logits(self._decoded(ids, states, lengths))

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, (self.head or self.decoder.embed_tokens).weight)

    def _decoded(
        self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor, cache: EncoderDecoderCache | None = None
    ) -> torch.Tensor:
        """What the head takes, [B, L, dim]. With `cache`, `ids` go on from those it was given before, and their keys and values
        are added to it."""
        decoder, size = self.decoder, ids.shape[1]
        before = cache.get_seq_length() if cache is not None else 0
        x = decoder.embed_tokens(ids) + decoder.embed_positions.weight[before : before + size]
        past = torch.ones(size, before + size, dtype=torch.bool, device=ids.device).tril(before)[None, None]
        heard = length_mask(lengths, states.shape[1])[:, None, None].expand(-1, 1, size, -1)
        for layer in decoder.layers:
            x = first_of(
                layer(
                    x,
                    attention_mask=past,
                    encoder_hidden_states=states,
                    encoder_attention_mask=heard,
                    use_cache=cache is not None,
                    **{CACHE: cache},
                )
            )
        return decoder.layer_norm(x)

    def losses(
        self,
        texts: list[list[int]],
        states: torch.Tensor,
        alone: torch.Tensor,
        lengths: torch.Tensor,
        lessons: Sequence[Lesson] = (),
    ) -> tuple[Term, Term]:
        # `most_tokens` is where the decoder's position table ends. There is no CTC: Whisper has no head for it.
        texts = [lesson.text for lesson in lessons] or texts
        if max(map(len, texts)) > self.most_tokens:
            raise DataError(f"a transcript of {max(map(len, texts))} tokens, at most {self.most_tokens} are read")
        logits, wanted = self._logits_of(texts, states, lengths)
        reading = F.cross_entropy(logits, wanted, reduction="sum")
        if lessons:
            reading = reading + apart(logits, lessons)[wanted != self.end].sum()
        nothing = torch.zeros((), device=states.device)
        return Term(reading, reading.new_tensor(float(len(wanted)))), Term(nothing, nothing)

    def _logits_of(
        self, texts: list[list[int]], states: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [n, vocabulary], float32, of all tokens of `texts` and the end behind each, one text after the other; and these
        tokens [n]."""
        rows = [[*self.prompt, *text, self.end] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end] * (longest - len(row)) for row in rows], device=states.device)
        sizes = torch.tensor([len(row) for row in rows], device=states.device)
        hidden = self._decoded(ids[:, :-1], states, lengths)
        positions = torch.arange(1, longest, device=states.device)
        learned = (positions >= len(self.prompt)) & (positions < sizes[:, None])
        # The table of the head is as large as the rest of a small decoder: no logits of what is not learned.
        return self._logits(hidden[learned]).float(), ids[:, 1:][learned]

    def lesson(self, states: torch.Tensor, lengths: torch.Tensor) -> Lesson:
        (text,) = self.read(states, states, lengths)
        logits, _ = self._logits_of([text], states, lengths)
        log_probs, likely = logits.log_softmax(dim=-1).topk(min(LIKELY, logits.shape[-1]))
        return Lesson(text, likely.int().cpu(), log_probs.half().cpu())

    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        limits = (2 * lengths + 4).clamp_max(self.most_tokens)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        given = torch.tensor([self.prompt] * len(states), device=states.device)
        running = torch.ones(len(states), dtype=torch.bool, device=states.device)
        rows: list[list[int]] = [[] for _ in states]
        while running.any():
            logits = self._logits(self._decoded(given, states, lengths, cache)[:, -1])
            logits[:, self.never if rows[0] or not self.never_first else [*self.never, *self.never_first]] = -torch.inf
            following = logits.argmax(dim=-1)
            for row, token in zip(rows, following.tolist(), strict=True):
                row.append(token)
            circling = torch.tensor([circle(row) > 0 for row in rows], device=states.device)
            running = running & (following != self.end) & ~circling & (len(rows[0]) <= limits)
            given = torch.where(running, following, self.end)[:, None]
        return [self._read(row, int(limit)) for row, limit in zip(rows, limits.tolist(), strict=True)]

    def _read(self, row: list[int], limit: int) -> list[int]:
        """Up to the end token, `limit`, or the first time round of a circle."""
        for size in range(len(row)):
            if row[size] == self.end or size == limit:
                return row[:size]
            if again := circle(row[: size + 1]):
                return row[: size + 1 - again]
        return row


def apart(logits: torch.Tensor, lessons: Sequence[Lesson]) -> torch.Tensor:
    """KL(lesson ‖ `logits`) of each next token, [n], of `logits` [n, vocabulary]: of the likely ids of the lessons, one after the
    other, and all others as one."""
    likely = torch.cat([lesson.likely for lesson in lessons]).to(logits.device, torch.int64)
    wanted = torch.cat([lesson.log_probs for lesson in lessons]).to(logits.device, torch.float32)
    found, share = logits.log_softmax(dim=-1).gather(1, likely), wanted.exp()
    rest, others = ((1 - some.sum(dim=1)).clamp_min(1e-5) for some in (share, found.exp()))
    return (share * (wanted - found)).sum(dim=1) + rest * (rest.log() - others.log())


LIKELY = 32
"""Next tokens whose probabilities are kept of a lesson: all of them would be 100 kB for each token."""
LEAST_ROUND = 12
"""Tokens that a circle has at least in all its rounds."""


def circle(tokens: list[int]) -> int:
    """How many of the last tokens repeat those before them: where the end of a text is one sequence of tokens at least three
    times, `LEAST_ROUND` tokens or more in all, the length of all rounds but the first; else 0.

    People say a word three times, and Whisper's decoder, left without an end, says the same to its limit (Radford et al. 2022,
    section 4.5, look for this by the compression ratio)."""
    for size in range(1, len(tokens) // 3 + 1):
        end, rounds = len(tokens), 1
        while end >= 2 * size and tokens[end - 2 * size : end - size] == tokens[end - size : end]:
            end, rounds = end - size, rounds + 1
        if rounds >= 3 and rounds * size >= LEAST_ROUND:
            return (rounds - 1) * size
    return 0
