"""Codes and a voice → log-mel: transformer layers at the code rate, convolutions at 50 Hz, two frames out of each."""

import torch
from torch import nn

from mmpt.layers.attention import blocks
from mmpt.layers.convolution import KERNEL, ConvBlock
from mmpt.layers.masks import length_mask, local_mask
from mmpt.layers.positions import rotations
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.constants import STRIDE
from mmpt.tokenizers.speech.direct import WIDTH, Direct
from mmpt.tokenizers.terms import Term


class MelDecoder(nn.Module):
    """Without a reference encoder, the voice is a few numbers squeezed out of the mean and the deviation of each mel band over
    time: they carry how high and how loud somebody speaks, and are too few to carry what is said, or much of who it is."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        shape = config.decoder
        self.config, self.shape = config, shape
        # With a reference encoder, voices come from there.
        self.voice = nn.Identity() if shape.reference else nn.Linear(2 * config.mels, shape.voice)
        self.from_voice = nn.Linear(shape.voice, shape.dim)
        causal, dim = shape.block is not None, config.quantizer.dim
        self.direct = Direct(dim, config.mels, config.frames_per_code, causal) if shape.reference else None
        self.from_code = nn.Linear(config.quantizer.dim, shape.dim)
        self.layers = blocks(shape.layers, shape.dim, shape.heads, dropout=shape.dropout)
        self.upsample = nn.Linear(shape.dim, config.pool * shape.dim)
        self.blocks = nn.ModuleList(ConvBlock(shape.dim, shape.block is not None) for _ in range(shape.blocks))
        last = nn.Linear(shape.dim, STRIDE * config.mels)
        self.out = nn.Sequential(nn.LayerNorm(shape.dim), last)
        if self.direct:  # which says it all at first
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def reach(self) -> tuple[int, int]:
        """How many frames before and after its code's (of a block: before and after the block's) a frame depends on."""
        codes = max(self.shape.attention * self.shape.layers, WIDTH - 1 if self.direct else 0)
        attention = codes * self.config.frames_per_code
        convolutions = self.shape.blocks * (KERNEL - 1) * STRIDE
        if self.shape.block is not None:
            return attention + convolutions, 0
        return attention + convolutions // 2, attention + convolutions // 2

    def forward(self, states: torch.Tensor, lengths: torch.Tensor, voice: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, C · frames_per_code, mels] of quantised `states` [B, C, quantizer.dim] and `voice` [B, decoder.voice]."""
        shape, pool = self.shape, self.config.pool
        mask = length_mask(lengths, states.shape[1])
        known = self.direct.standard(states) if self.direct else states
        x = self.from_code(known) + self.from_voice(voice)[:, None]
        seen = local_mask(mask, shape.attention, shape.block)
        angles = rotations(torch.arange(x.shape[1], device=x.device), shape.dim // shape.heads)
        for layer in self.layers:
            x = layer(x, seen, angles=angles)
        x = self.upsample(x).unflatten(-1, (pool, -1)).flatten(1, 2)
        valid = mask.repeat_interleave(pool, dim=1)[..., None]
        for block in self.blocks:
            x = block(x, valid)
        mel = self.out(x).unflatten(-1, (STRIDE, -1)).flatten(1, 2)
        return mel + self.direct(states, mask, voice[:, : 2 * self.config.mels]) if self.direct else mel

    def loss(self, mel: torch.Tensor, counted: torch.Tensor, target: torch.Tensor) -> Term:
        """Mean absolute error of `mel` against the log-mel `target` [B, T, mels] where `counted` [B, T], plus that of its changes
        from frame to frame."""
        valid = counted[..., None]
        error = (mel.float() - target) * valid
        changes = error.diff(dim=1) * (valid[:, 1:] & valid[:, :-1])  # not from or to what is not counted
        return Term(error.abs().sum() + changes.abs().sum(), (counted.sum() * target.shape[2]).to(error.dtype))
