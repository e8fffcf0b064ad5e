"""Log-mel → codes → states that text can be read from: a Whisper-shaped encoder with a quantiser in its middle.

The shape is GLM-4-Voice's speech tokenizer (Zeng et al. 2024, section 3.1): convolutional stem, transformer layers, average
pooling, quantiser, a second position table, further layers. What differs, so that it also learns from little data and so that
codes do not depend on where audio was cut: convolutional blocks follow the stem; before the quantiser attention is local and
knows distances alone; and the quantiser works in a small projected space.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.quantizers import Quantized, build_quantizer
from mmpt.tokenizers.speech.config import HOP, STRIDE, SpeechConfig
from mmpt.tokenizers.speech.features import WINDOW
from mmpt.tokenizers.speech.layers import KERNEL, ConvBlock, Layer, length_mask, local_mask, rotations, sinusoids
from mmpt.tokenizers.speech.windows import Context

STEM = 3  # the kernel of both of its convolutions


class SpeechEncoder(nn.Module):
    """In three steps, since each of them is also used alone: `states`, `quantize`, `read`."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        shape = config.encoder
        self.config, self.shape = config, shape
        dim, causal = shape.dim, shape.block is not None
        self.stem_padding = (STEM - 1, 0) if causal else (STEM // 2, STEM // 2)
        self.stem = nn.ModuleList([nn.Conv1d(config.mels, dim, STEM), nn.Conv1d(dim, dim, STEM, stride=STRIDE)])
        self.stem_norm = nn.LayerNorm(dim)
        self.convs = nn.ModuleList(ConvBlock(dim, causal) for _ in range(shape.conv_blocks))
        self.before = nn.ModuleList(Layer(dim, shape.heads, shape.dropout) for _ in range(shape.layers_before))
        self.pooled = nn.ModuleList(Layer(dim, shape.heads, shape.dropout) for _ in range(shape.layers_pooled))
        self.to_code = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.quantizer.dim))
        self.quantizer = build_quantizer(config.quantizer)
        self.from_code = nn.Sequential(nn.Linear(config.quantizer.dim, dim), nn.LayerNorm(dim))
        self.after = nn.ModuleList(Layer(dim, shape.heads, shape.dropout) for _ in range(shape.layers_after))
        self.norm = nn.LayerNorm(dim)
        # Small beside the normalised states: at full size it drowns the sound, and training stalls.
        self.register_buffer("code_positions", 0.5 * sinusoids(torch.arange(config.window), dim), persistent=False)

    @property
    def context(self) -> Context:
        """How much audio around it a code depends on: the sum of what each layer reaches."""
        shape, per_code = self.shape, self.config.samples_per_code
        attention = shape.attention * (shape.layers_before + shape.layers_pooled) * per_code
        convolutions = 2 * (STEM - 1) // 2 * HOP + shape.conv_blocks * (KERNEL // 2) * STRIDE * HOP
        if shape.block is None:
            right = attention + convolutions + WINDOW // 2
            return Context(math.ceil(right / per_code), right, 1)
        # The last frame that a causal code sees begins two hops before its end.
        right = max(0, WINDOW // 2 - STRIDE * HOP)
        return Context(math.ceil((attention + 2 * convolutions + WINDOW // 2) / per_code), right, shape.block)

    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of `mel` [B, C · frames_per_code, mels]; `lengths` [B] in codes."""
        pool, shape = self.config.pool, self.shape
        frames = length_mask(lengths * self.config.frames_per_code, mel.shape[1])
        mask = frames[:, ::STRIDE]
        x = (mel * frames[..., None]).transpose(1, 2).to(self.stem[0].weight.dtype)
        x = F.gelu(self.stem[0](F.pad(x, self.stem_padding))) * frames[:, None]
        x = self.stem_norm(F.gelu(self.stem[1](F.pad(x, self.stem_padding))).transpose(1, 2))
        for block in self.convs:
            x = block(x, mask[..., None])
        if self.before:
            x = self._attend(x, mask, self.before, shape.attention * pool, shape.block and shape.block * pool)
        x = x.unflatten(1, (-1, pool)).mean(dim=2)
        return self.to_code(self._attend(x, mask[:, ::pool], self.pooled, shape.attention, shape.block))

    def quantize(self, states: torch.Tensor, lengths: torch.Tensor) -> Quantized:
        """Codes of `states` [B, C, quantizer.dim]; a codebook learns only from positions inside `lengths` [B]."""
        return self.quantizer(states, length_mask(lengths, states.shape[1]))

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantised vectors [B, C, quantizer.dim] → each one alone [B, C, dim], and all in context for the text decoder."""
        alone = self.from_code(states.to(self.norm.weight.dtype))  # a codebook stays float32
        x = alone + self.code_positions[: states.shape[1]].to(alone.dtype)
        mask = length_mask(lengths, x.shape[1])[:, None, None]
        for layer in self.after:
            x = layer(x, mask)
        return alone, self.norm(x)

    def _attend(self, x: torch.Tensor, mask: torch.Tensor, layers: nn.ModuleList, reach: int, block: int | None) -> torch.Tensor:
        angles = rotations(torch.arange(x.shape[1], device=x.device), self.shape.dim // self.shape.heads)
        seen = local_mask(mask, reach, block)
        for layer in layers:
            x = layer(x, seen, angles=angles)
        return x
