"""Log-mel → codes → states that text can be read from: a Whisper-shaped encoder with a quantiser in its middle.

The shape is GLM-4-Voice's speech tokenizer (Zeng et al. 2024, section 3.1): convolutional stem, transformer layers, average
pooling, quantiser, a second position table, further layers. What differs, so that it also learns from little data:
convolutional blocks follow the stem; attention before the quantiser is local, so that a code speaks of its own surroundings
wherever an utterance is cut; and the quantiser works in a small projected space.
"""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.quantizers import Quantized, build_quantizer
from mmpt.tokenizers.speech.config import STRIDE, SpeechConfig
from mmpt.tokenizers.speech.layers import ConvBlock, Layer, length_mask, local_mask, sinusoids


class SpeechEncoder(nn.Module):
    """In three steps, since each of them is also used alone: `states`, `quantize`, `read`."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.config = config
        dim = config.dim
        self.stem = nn.ModuleList([nn.Conv1d(config.mels, dim, 3, padding=1), nn.Conv1d(dim, dim, 3, stride=STRIDE, padding=1)])
        self.stem_norm = nn.LayerNorm(dim)
        self.convs = nn.ModuleList(ConvBlock(dim) for _ in range(config.conv_blocks))
        self.before = nn.ModuleList(Layer(dim, config.heads, config.dropout) for _ in range(config.layers_before))
        self.pooled = nn.ModuleList(Layer(dim, config.heads, config.dropout) for _ in range(config.layers_pooled))
        self.to_code = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.quantizer.dim))
        self.quantizer = build_quantizer(config.quantizer)
        self.from_code = nn.Sequential(nn.Linear(config.quantizer.dim, dim), nn.LayerNorm(dim))
        self.after = nn.ModuleList(Layer(dim, config.heads, config.dropout) for _ in range(config.layers_after))
        self.norm = nn.LayerNorm(dim)
        # Small beside the normalised states: at full size they drown the sound, and training stalls.
        self.register_buffer("positions", 0.1 * sinusoids(torch.arange(config.window * config.pool), dim), persistent=False)
        self.register_buffer("code_positions", 0.5 * sinusoids(torch.arange(config.window), dim), persistent=False)

    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of `mel` [B, C · frames_per_code, mels]; `lengths` [B] in codes."""
        pool = self.config.pool
        frames = length_mask(lengths * self.config.frames_per_code, mel.shape[1])
        mask = frames[:, ::STRIDE]
        x = (mel * frames[..., None]).transpose(1, 2)
        x = F.gelu(self.stem[0](x))  # past the end not zero, but the last valid state of the next, strided one ends before
        x = self.stem_norm(F.gelu(self.stem[1](x)).transpose(1, 2))
        for block in self.convs:
            x = block(x, mask[..., None])
        x = x + self._positions(x.shape[1])
        seen = local_mask(mask, self.config.attention * pool)
        for layer in self.before:
            x = layer(x, seen)
        x = x.unflatten(1, (-1, pool)).mean(dim=2)
        seen = local_mask(mask[:, ::pool], self.config.attention)
        for layer in self.pooled:
            x = layer(x, seen)
        return self.to_code(x)

    def quantize(self, states: torch.Tensor, lengths: torch.Tensor) -> Quantized:
        """Codes of `states` [B, C, quantizer.dim]; a codebook learns only from positions inside `lengths` [B]."""
        return self.quantizer(states, length_mask(lengths, states.shape[1]))

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantised vectors [B, C, quantizer.dim] → each one alone [B, C, dim], and all in context for the text decoder."""
        alone = self.from_code(states)
        x = alone + self.code_positions[: states.shape[1]]
        mask = length_mask(lengths, x.shape[1])[:, None, None]
        for layer in self.after:
            x = layer(x, mask)
        return alone, self.norm(x)

    def _positions(self, length: int) -> torch.Tensor:
        """A stretch of the position table: its beginning, in training any, since local attention needs distances alone."""
        start = int(torch.randint(len(self.positions) - length + 1, ())) if self.training else 0
        return self.positions[start : start + length]
