"""Codes to a coarse mel: the encoder of GLM-4-Voice's flow decoder and what brings its states to the rate of frames.

After THUDM/GLM-4-Voice (cosyvoice/transformer, cosyvoice/flow/length_regulator.py), for inference alone; parameters have the
names of the released checkpoint.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.published._flow_config import EncoderShape, RegulatorShape


class BlockEncoder(nn.Module):
    """Transformer layers with relative positions. A code sees its own block and all that lies before."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        width = shape.output_size
        self.block, self.width = shape.block_size, width
        self.embed = nn.ModuleDict({"out": nn.Sequential(nn.Linear(shape.input_size, width), nn.LayerNorm(width))})
        self.encoders = nn.ModuleList(_Layer(width, shape.attention_heads, shape.linear_units) for _ in range(shape.num_blocks))
        self.after_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """States [B, T, output_size] of embedded codes [B, T, input_size]."""
        x = self.embed["out"](x) * math.sqrt(self.width)
        block = torch.arange(x.shape[1], device=x.device) // self.block
        seen = block <= block[:, None]
        distances = _sinusoids(torch.arange(x.shape[1] - 1, -x.shape[1], -1, device=x.device), self.width)
        for layer in self.encoders:
            x = layer(x, distances, seen)
        return self.after_norm(x)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.norm_mha, self.norm_ff = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = _RelativeAttention(width, heads)
        self.feed_forward = nn.ModuleDict({"w_1": nn.Linear(width, inner), "w_2": nn.Linear(inner, width)})

    def forward(self, x: torch.Tensor, distances: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.norm_mha(x), distances, seen)
        return x + self.feed_forward["w_2"](F.silu(self.feed_forward["w_1"](self.norm_ff(x))))


class _RelativeAttention(nn.Module):
    """Attention by what is there and by how far it is (Dai et al. 2019, arXiv:1901.02860, section 3.3)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k, self.linear_v = (nn.Linear(width, width) for _ in range(3))
        self.linear_out, self.linear_pos = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, x: torch.Tensor, distances: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """[B, T, width] of the same; `distances` [2T − 1, width] from T − 1 down, `seen` [T, T] (query, key)."""
        count = x.shape[1]
        queries = self.linear_q(x).unflatten(-1, (self.heads, -1))
        keys, values = (linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.linear_k, self.linear_v))
        places = self.linear_pos(distances).unflatten(-1, (self.heads, -1)).transpose(0, 1)  # [H, 2T − 1, D]
        by_place = (queries + self.pos_bias_v).transpose(1, 2) @ places.transpose(1, 2)
        order = torch.arange(count, device=x.device)
        place = count - 1 - order[:, None] + order  # of the distance from query to key
        by_place = by_place.gather(-1, place.expand(*by_place.shape[:2], -1, -1)) / math.sqrt(queries.shape[-1])
        mask = by_place.masked_fill(~seen, -math.inf)
        mixed = F.scaled_dot_product_attention((queries + self.pos_bias_u).transpose(1, 2), keys, values, attn_mask=mask)
        return self.linear_out(mixed.transpose(1, 2).flatten(2))


class LengthRegulator(nn.Module):
    """Each state as often as there are frames for it, then smoothed."""

    def __init__(self, shape: RegulatorShape):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in shape.sampling_ratios:
            layers += [nn.Conv1d(shape.channels, shape.channels, 3, padding=1), nn.GroupNorm(1, shape.channels), nn.Mish()]
        self.model = nn.Sequential(*layers, nn.Conv1d(shape.channels, shape.channels, 1))

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """[B, channels, frames] of [B, channels, T]."""
        return self.model(F.interpolate(x, size=frames, mode="nearest"))


def _sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """[T, width] of positions [T]: sine and cosine in turn."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * -(math.log(10_000) / width))
    angles = positions[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
