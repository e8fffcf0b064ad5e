"""The module of `Small`: a Whisper-shaped encoder with a quantiser in its middle.

The shape is GLM-4-Voice's speech tokenizer (Zeng et al. 2024, section 3.1): convolutional stem, transformer layers, average
pooling, quantiser, a second position table, further layers. What differs, so that it also learns from little data and so that
codes do not depend on where audio was cut: convolutional blocks follow the stem; before the quantiser attention is local and
knows distances alone; and the quantiser works in a small projected space.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.attention import blocks
from mmpt.layers.convolution import KERNEL, ConvBlock
from mmpt.layers.masks import length_mask, local_mask
from mmpt.layers.positions import rotations, sinusoids
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.constants import HOP, STRIDE
from mmpt.tokenizers.speech.encoders.small import Small
from mmpt.tokenizers.speech.features import WINDOW
from mmpt.tokenizers.speech.recognizer import EncoderModule
from mmpt.tokenizers.speech.windows import Context

STEM = 3  # the kernel of both of its convolutions


class SmallEncoder(EncoderModule):
    """Convolutions, transformer layers, pooling, quantiser, transformer layers."""

    code_positions: torch.Tensor

    def __init__(self, config: SpeechConfig, shape: Small):
        super().__init__()
        self.config, self.shape = config, shape
        dim, causal = shape.dim, shape.block is not None
        self.stem_padding = (STEM - 1, 0) if causal else (STEM // 2, STEM // 2)
        first, second = nn.Conv1d(config.mels, dim, STEM), nn.Conv1d(dim, dim, STEM, stride=STRIDE)
        self.stem = nn.ModuleList([first, second])
        self.stem_norm = nn.LayerNorm(dim)
        self.convs = nn.ModuleList(ConvBlock(dim, causal) for _ in range(shape.conv_blocks))
        self.before = blocks(shape.layers_before, dim, shape.heads, dropout=shape.dropout)
        self.pooled = blocks(shape.layers_pooled, dim, shape.heads, dropout=shape.dropout)
        self.to_code = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.quantizer.dim))
        self.quantizer = config.quantizer.build()
        self.from_code = nn.Sequential(nn.Linear(config.quantizer.dim, dim), nn.LayerNorm(dim))
        self.after = blocks(shape.layers_after, dim, shape.heads, dropout=shape.dropout)
        self.norm = nn.LayerNorm(dim)
        # Small beside the normalised states: at full size it drowns the sound, and training stalls.
        self.register_buffer("code_positions", 0.5 * sinusoids(torch.arange(config.window), dim), persistent=False)

    @property
    def context(self) -> Context:
        # The sum of what each layer reaches, in samples.
        shape, per_code = self.shape, self.config.samples_per_code
        attention = shape.attention * (shape.layers_before + shape.layers_pooled) * per_code
        convolutions = 2 * (STEM - 1) // 2 * HOP + shape.conv_blocks * (KERNEL // 2) * STRIDE * HOP
        if shape.block is None:
            right = attention + convolutions + WINDOW // 2
            return Context(math.ceil(right / per_code), right, 1)
        # The last frame that a causal code sees begins two hops before its end.
        right = max(0, WINDOW // 2 - STRIDE * HOP)
        return Context(math.ceil((attention + 2 * convolutions + WINDOW // 2) / per_code), right, shape.block)

    def hear(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return mel  # all of its layers learn

    def before_code(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mel = hidden
        pool, shape = self.config.pool, self.shape
        frames = length_mask(lengths * self.config.frames_per_code, mel.shape[1])
        mask = frames[:, ::STRIDE]
        x = (mel * frames[..., None]).transpose(1, 2).to(self.norm.weight.dtype)
        x = F.gelu(self.stem[0](F.pad(x, self.stem_padding))) * frames[:, None]
        x = self.stem_norm(F.gelu(self.stem[1](F.pad(x, self.stem_padding))).transpose(1, 2))
        for block in self.convs:
            x = block(x, mask[..., None])
        if self.before:
            x = self._attend(x, mask, self.before, shape.attention * pool, None if shape.block is None else shape.block * pool)
        x = x.unflatten(1, (-1, pool)).mean(dim=2)
        return self.to_code(self._attend(x, mask[:, ::pool], self.pooled, shape.attention, shape.block))

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        alone = self.from_code(states.to(self.norm.weight.dtype))  # a codebook stays float32
        x = alone + self.code_positions[: states.shape[1]].to(alone.dtype)
        mask = length_mask(lengths, x.shape[1])[:, None, None]
        for layer in self.after:
            x = layer(x, mask)
        return alone, self.norm(x), lengths

    def _attend(self, x: torch.Tensor, mask: torch.Tensor, layers: nn.ModuleList, reach: int, block: int | None) -> torch.Tensor:
        angles = rotations(torch.arange(x.shape[1], device=x.device), self.shape.dim // self.shape.heads)
        seen = local_mask(mask, reach, block)
        for layer in layers:
            x = layer(x, seen, angles=angles)
        return x
