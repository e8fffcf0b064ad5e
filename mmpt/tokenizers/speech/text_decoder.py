"""Reads the text out of the encoder's states: a small autoregressive decoder with cross-attention, and a CTC head beside it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.errors import DataError
from mmpt.layers.attention import blocks
from mmpt.layers.masks import length_mask
from mmpt.layers.positions import sinusoids
from mmpt.tokenizers.speech.lessons import Lesson
from mmpt.tokenizers.speech.recognizer import TextDecoder
from mmpt.tokenizers.terms import Term

MAX_TOKENS = 512


class SmallTextDecoder(TextDecoder):
    """Over a text vocabulary of `size` ids; the id `size` itself stands for begin and end, and for CTC's blank."""

    def __init__(self, size: int, dim: int, heads: int, layers: int, dropout: float):
        super().__init__()
        self.end, self.most_tokens = size, MAX_TOKENS - 1
        self.embedding = nn.Embedding(size + 1, dim)
        self.layers = blocks(layers, dim, heads, memory_width=dim, dropout=dropout)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, size + 1)
        self.ctc_head = nn.Linear(dim, size + 1)

    def forward(self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the next token [B, L, size + 1] after each of `ids` [B, L], given `states` [B, C, dim] of `lengths` [B]."""
        x = self.embedding(ids)
        x = x + sinusoids(torch.arange(ids.shape[1], device=ids.device), x.shape[-1]).to(x.dtype)
        past = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        seen = length_mask(lengths, states.shape[1])[:, None, None]
        for layer in self.layers:
            x = layer(x, past, states, seen)
        return self.head(self.norm(x))

    def losses(
        self,
        texts: list[list[int]],
        states: torch.Tensor,
        alone: torch.Tensor,
        lengths: torch.Tensor,
        lessons: Sequence[Lesson] = (),
    ) -> tuple[Term, Term]:
        sizes = torch.tensor([len(text) for text in texts], device=states.device)
        if int(sizes.max()) > self.most_tokens:
            raise DataError(f"a transcript of {int(sizes.max())} tokens, at most {self.most_tokens} are read")
        rows = torch.full((len(texts), int(sizes.max()) + 2), self.end, device=states.device)
        for row, text in zip(rows, texts, strict=True):
            row[1 : len(text) + 1] = torch.tensor(text)
        # CTC (Graves et al. 2006) reads what a single code says: from states in context it could guess the text by its grammar.
        scores = self.ctc_head(alone).float().log_softmax(dim=-1)
        logits = self(rows[:, :-1], self._numbered(states, scores), lengths)
        valid = length_mask(sizes + 1, logits.shape[1])
        reading = F.cross_entropy(logits[valid].float(), rows[:, 1:][valid], reduction="sum")
        ctc = F.ctc_loss(scores.transpose(0, 1), rows[:, 1:], lengths, sizes, blank=self.end, reduction="sum", zero_infinity=True)
        return Term(reading, valid.sum().to(reading.dtype)), Term(ctc, sizes.sum().to(ctc.dtype))

    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        states = self._numbered(states, self.ctc_head(alone).float().log_softmax(dim=-1))
        limits = (2 * lengths + 4).clamp_max(self.most_tokens)
        ids = torch.full((len(states), 1), self.end, device=states.device)
        running = torch.ones(len(states), dtype=torch.bool, device=states.device)
        while running.any():
            following = self(ids, states, lengths)[:, -1].argmax(dim=-1)
            running = running & (following != self.end) & (ids.shape[1] <= limits)
            ids = torch.cat([ids, torch.where(running, following, self.end)[:, None]], dim=1)
        return [[i for i in row if i != self.end] for row in ids.tolist()]

    def _numbered(self, states: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`states` [B, C, dim] with the position in the text that each has come to: how many tokens CTC, by its `scores`
        [B, C, size + 1], expects to have begun by then. Cross-attention finds the next word by it (compare CIF, Dong and Xu
        2020); without, it learns to count only slowly."""
        heard = scores.detach().exp()[..., : self.end]
        before = F.pad(heard, (0, 0, 1, 0))[:, :-1]
        position = (heard * (1 - before)).sum(dim=-1).cumsum(dim=1)
        return states + sinusoids(position, states.shape[-1]).to(states.dtype)
