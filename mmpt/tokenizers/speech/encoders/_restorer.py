"""What a code of a Whisper stands for, by those around it."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.convolution import KERNEL
from mmpt.layers.masks import length_mask

DROPOUT = 0.1
RIDGE = 1e-3
"""Of the mean square of the inputs of least squares."""
MASKED = 0.05
"""Share of the codes that are hidden in training, so that what stands around them is learned from."""


class FromAround(nn.Module):
    """Vectors of codes [B, C, inner] → what stood before the quantiser [B, C, dim], of each code and `reach` to either side a
    linear map: the best there is by least squares, a Wiener filter over codes."""

    def __init__(self, inner: int, dim: int, reach: int):
        super().__init__()
        self.inner, self.reach = inner, reach
        self.map = nn.Linear((2 * reach + 1) * inner, dim)

    def forward(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.map(self._around(states * length_mask(lengths, states.shape[1])[..., None]))

    def begin(self, rows: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Learn from utterances, of each its vectors [C, inner] and what they are to stand for [C, dim]."""
        size = self.map.in_features + 1
        gram, wanted = self.map.weight.new_zeros(size, size), self.map.weight.new_zeros(size, self.map.out_features)
        with torch.no_grad():
            for states, before in rows:
                seen = F.pad(self._around(states[None])[0], (0, 1), value=1.0)
                gram += seen.t() @ seen
                wanted += seen.t() @ before
            ridge = RIDGE * gram.diagonal().mean() * torch.eye(size, device=gram.device)
            found = torch.linalg.solve(gram + ridge, wanted)
            self.map.weight.copy_(found[:-1].t())
            self.map.bias.copy_(found[-1])

    def _around(self, states: torch.Tensor) -> torch.Tensor:
        return F.pad(states, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).flatten(2)


class Restorer(nn.Module):
    """Vectors of codes, each made alone → what stood before the quantiser, [B, C, dim], as far as the codes around tell: the same
    vectors until something is learned.

    A neighbouring frame of speech says much of what a codebook leaves out: of Whisper base's states after its fourth layer, 4,096
    codes of 12.5 Hz explain 0.72 of the variance one by one, and 0.78 by least squares from nine (docs/log.md). Layers of the
    Transformer's encoder (Vaswani et al. 2017, arXiv:1706.03762), normalised before (Xiong et al. 2020, arXiv:2002.04745), each
    behind a depthwise convolution, which tells near from far (as the Conformer's, Gulati et al. 2020, arXiv:2005.08100).
    """

    def __init__(self, dim: int, heads: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(RestorerLayer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.leave = nn.Linear(dim, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def begin(self, rows: torch.Tensor) -> None:
        """Take each value relative to its mean and deviation over `rows` [n, dim] of what is to be restored."""
        self.mean.copy_(rows.mean(dim=0))
        self.deviation.copy_(rows.std(dim=0).clamp_min(1e-6))

    def scaled(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` [..., dim] as their errors are counted: each value by the root of its deviation, as the quantiser takes them."""
        return rows * self.deviation.rsqrt().to(rows.dtype)

    def forward(self, alone: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        padding = ~length_mask(lengths, alone.shape[1])
        x = F.dropout((alone - self.mean) / self.deviation, DROPOUT, self.training)
        if self.training:
            x = x.masked_fill((torch.rand(x.shape[:2], device=x.device) < MASKED)[..., None], 0.0)
        for layer in self.layers:
            x = layer(x, padding)
        return alone + self.deviation * self.leave(self.norm(x))


class RestorerLayer(nn.Module):
    """On `x` [B, C, dim], of which `padding` [B, C] is true where nothing is."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.spread = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.mix = nn.TransformerEncoderLayer(dim, heads, 4 * dim, DROPOUT, F.gelu, batch_first=True, norm_first=True)

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        x = x + self.spread(x.masked_fill(padding[..., None], 0.0).transpose(1, 2)).transpose(1, 2)
        return self.mix(x, src_key_padding_mask=padding)
