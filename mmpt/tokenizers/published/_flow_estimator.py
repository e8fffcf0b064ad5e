"""The velocity of a path from noise to a mel: the U-Net of Matcha-TTS (Mehta et al. 2023, arXiv:2309.03199) as CosyVoice and
GLM-4-Voice have it.

After THUDM/GLM-4-Voice (cosyvoice/flow/decoder.py) and shivammehta25/Matcha-TTS (matcha/models/components), for inference alone
and for rows of one length, so that nothing is masked; parameters have the names of the released checkpoint.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.published._flow_config import EstimatorShape

_GROUPS = 8


class Estimator(nn.Module):
    """Convolutions and transformer blocks, at half the rate in the middle, each shifted by the time on the path."""

    def __init__(self, shape: EstimatorShape):
        super().__init__()
        widths, self.into = shape.channels, shape.in_channels
        time = 4 * widths[0]
        self.time_mlp = nn.ModuleDict({"linear_1": nn.Linear(self.into, time), "linear_2": nn.Linear(time, time)})

        def stage(into: int, width: int, last: list[nn.Module]) -> nn.ModuleList:
            blocks = [_Transformer(width, shape.num_heads, shape.attention_head_dim) for _ in range(shape.n_blocks)]
            return nn.ModuleList([_Residual(into, width, time), nn.ModuleList(blocks), *last])

        def resized(number: int, width: int, layer: nn.Module) -> list[nn.Module]:
            """Behind all stages but the last one the rate changes."""
            is_last = number == len(widths) - 1
            return [nn.Conv1d(width, width, 3, padding=1) if is_last else nn.ModuleDict({"conv": layer})]

        self.down_blocks = nn.ModuleList(
            stage(into, width, resized(number, width, nn.Conv1d(width, width, 3, stride=2, padding=1)))
            for number, (into, width) in enumerate(zip([self.into, *widths], widths, strict=False))
        )
        self.mid_blocks = nn.ModuleList(stage(widths[-1], widths[-1], []) for _ in range(shape.num_mid_blocks))
        back = widths[::-1]
        self.up_blocks = nn.ModuleList(
            stage(2 * into, width, resized(number, width, nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)))
            for number, (into, width) in enumerate(zip(back, [*back[1:], widths[0]], strict=True))
        )
        self.final_block = _Block(widths[0], widths[0])
        self.final_proj = nn.Conv1d(widths[0], shape.out_channels, 1)

    def forward(self, x: torch.Tensor, time: float) -> torch.Tensor:
        """Velocity [B, out_channels, T] at `time` in 0 … 1 of [B, in_channels, T]: where the path is, and its conditions."""
        half = self.into // 2
        rates = torch.exp(torch.arange(half, device=x.device) * -(math.log(10_000) / (half - 1)))
        angles = 1000 * torch.tensor([[time]], device=x.device) * rates
        when = F.silu(self.time_mlp["linear_1"](torch.cat([angles.sin(), angles.cos()], dim=-1)))
        when = F.mish(self.time_mlp["linear_2"](when))
        skipped = []
        for residual, blocks, down in self.down_blocks:  # pyright: ignore[reportGeneralTypeIssues]
            x = _through(blocks, residual(x, when))
            skipped.append(x)
            x = _resized(down, x)
        for residual, blocks in self.mid_blocks:  # pyright: ignore[reportGeneralTypeIssues]
            x = _through(blocks, residual(x, when))
        for residual, blocks, up in self.up_blocks:  # pyright: ignore[reportGeneralTypeIssues]
            skip = skipped.pop()
            x = torch.cat([x[:, :, : skip.shape[2]], skip], dim=1)
            x = _resized(up, _through(blocks, residual(x, when)))
        return self.final_proj(self.final_block(x))


def _through(blocks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    x = x.transpose(1, 2)
    for block in blocks:
        x = block(x)
    return x.transpose(1, 2)


def _resized(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layer["conv"](x) if isinstance(layer, nn.ModuleDict) else layer(x)


class _Block(nn.Module):
    def __init__(self, into: int, width: int):
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(into, width, 3, padding=1), nn.GroupNorm(_GROUPS, width), nn.Mish())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class _Residual(nn.Module):
    def __init__(self, into: int, width: int, time: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time, width))
        self.block1, self.block2 = _Block(into, width), _Block(width, width)
        self.res_conv = nn.Conv1d(into, width, 1)

    def forward(self, x: torch.Tensor, when: torch.Tensor) -> torch.Tensor:
        """[B, width, T] of [B, into, T]; `when` [1, time], behind its Mish."""
        return self.block2(self.block1(x) + self.mlp[1](when)[:, :, None]) + self.res_conv(x)


class _Transformer(nn.Module):
    """Attention of every frame to every other, and a feed-forward net."""

    def __init__(self, width: int, heads: int, dim: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1 = nn.ModuleDict({name: nn.Linear(width, heads * dim, bias=False) for name in ("to_q", "to_k", "to_v")})
        self.attn1["to_out"] = nn.ModuleList([nn.Linear(heads * dim, width)])
        into, out = nn.ModuleDict({"proj": nn.Linear(width, 4 * width)}), nn.Linear(4 * width, width)
        self.ff = nn.ModuleDict({"net": nn.ModuleList([into, nn.Identity(), out])})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] of the same."""
        normed = self.norm1(x)
        parts = [self.attn1[name](normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("to_q", "to_k", "to_v")]
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.attn1["to_out"][0](mixed.transpose(1, 2).flatten(2))  # pyright: ignore[reportIndexIssue]
        into, _, out = self.ff["net"]  # pyright: ignore[reportGeneralTypeIssues]
        return x + out(F.gelu(into["proj"](self.norm3(x))))
