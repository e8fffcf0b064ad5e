"""Codes → log-mel by least squares: what a decoder begins with, and adds to what it learns by gradients.

Our own. A hundred steps of gradients teach a decoder when somebody speaks and how loud; one solution of normal equations shows it
the formants too.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

WIDTH = 7
"""Codes that a frame is made of."""
RIDGE = 1e-3
"""Of the mean square of the inputs, so that what was rarely seen has small weights."""


Utterance = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Direct(nn.Module):
    """A linear map of the codes about a frame, and of the statistics of a voice's mel bands. 0 until it has learned."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, dim: int, mels: int, frames: int, causal: bool):
        super().__init__()
        self.mels, self.frames = mels, frames
        self.padding = (WIDTH - 1, 0) if causal else (WIDTH // 2, WIDTH // 2)
        # A few values of Whisper's states are a hundred times the others.
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.map = nn.Linear(WIDTH * dim + 2 * mels, frames * mels).requires_grad_(False)  # gradients would not improve it
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def standard(self, states: torch.Tensor) -> torch.Tensor:
        """`states` [..., dim], each value with mean 0 and deviation 1."""
        return (states - self.mean) * self.scale

    def forward(self, states: torch.Tensor, mask: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, C · frames, mels] of `states` [B, C, dim], valid where `mask` [B, C], and the `statistics` [B, 2 · mels] of
        a voice."""
        return self.map(self._inputs(states, mask, statistics)).unflatten(-1, (self.frames, self.mels)).flatten(1, 2)

    def learn(self, states: Iterable[torch.Tensor], utterances: Iterable[Utterance]) -> None:
        """The best of all such maps: `states` [C, dim] show how large they are; of each of the `utterances` its states, its
        log-mel [C · frames, mels] and the statistics [2 · mels] of its voice."""
        deviation, mean = torch.std_mean(torch.cat(list(states)), dim=0)
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation.clamp_min(1e-4))
        size = self.map.in_features + 1
        gram, wanted = self.map.weight.new_zeros(size, size), self.map.weight.new_zeros(size, self.map.out_features)
        for row, mel, statistics in utterances:
            seen = self._inputs(row[None], torch.ones(1, len(row), dtype=torch.bool, device=row.device), statistics[None])[0]
            seen = torch.cat([seen, seen.new_ones(len(seen), 1)], dim=1)
            gram += seen.t() @ seen
            wanted += seen.t() @ mel.reshape(len(row), -1)
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(size, device=gram.device)
        found = torch.linalg.solve(gram + ridge, wanted)
        with torch.no_grad():
            self.map.weight.copy_(found[:-1].t())
            self.map.bias.copy_(found[-1])

    def _inputs(self, states: torch.Tensor, mask: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        x = F.pad(self.standard(states) * mask[..., None], (0, 0, *self.padding))
        about = x.unfold(1, WIDTH, 1).flatten(2)
        return torch.cat([about, statistics[:, None].expand(-1, about.shape[1], -1)], dim=-1)
