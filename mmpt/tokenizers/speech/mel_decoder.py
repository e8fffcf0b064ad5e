"""Codes and a voice → log-mel: transformer layers at the code rate, convolutions at 50 Hz, two frames out of each."""

import torch
from torch import nn

from mmpt.tokenizers.speech.config import STRIDE, SpeechConfig
from mmpt.tokenizers.speech.layers import ConvBlock, Layer, length_mask, local_mask, sinusoids


class MelDecoder(nn.Module):
    """The voice is a few numbers squeezed out of the mean and the deviation of each mel band over time: they carry who speaks
    and how loud, and are too few to carry what is said."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.config = config
        self.voice = nn.Linear(2 * config.mels, config.voice)
        self.from_voice = nn.Linear(config.voice, config.dim)
        self.from_code = nn.Linear(config.quantizer.dim, config.dim)
        self.layers = nn.ModuleList(Layer(config.dim, config.heads, config.dropout) for _ in range(config.mel_layers))
        self.upsample = nn.Linear(config.dim, config.pool * config.dim)
        self.blocks = nn.ModuleList(ConvBlock(config.dim) for _ in range(config.mel_blocks))
        self.out = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, STRIDE * config.mels))
        self.register_buffer("positions", 0.1 * sinusoids(torch.arange(config.window), config.dim), persistent=False)

    def forward(self, states: torch.Tensor, lengths: torch.Tensor, voice: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, C · frames_per_code, mels] of quantised `states` [B, C, quantizer.dim] and `voice` [B, config.voice]."""
        mask = length_mask(lengths, states.shape[1])
        start = int(torch.randint(len(self.positions) - states.shape[1] + 1, ())) if self.training else 0
        x = self.from_code(states) + self.from_voice(voice)[:, None] + self.positions[start : start + states.shape[1]]
        seen = local_mask(mask, self.config.attention)
        for layer in self.layers:
            x = layer(x, seen)
        x = self.upsample(x).unflatten(-1, (self.config.pool, -1)).flatten(1, 2)
        mask = mask.repeat_interleave(self.config.pool, dim=1)[..., None]
        for block in self.blocks:
            x = block(x, mask)
        return self.out(x).unflatten(-1, (STRIDE, -1)).flatten(1, 2)

    def loss(self, states: torch.Tensor, lengths: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean absolute error of the log-mel `target` [B, T, mels] spoken from `states` in its own voice, plus that of its
        changes from frame to frame."""
        frames = lengths * self.config.frames_per_code
        mel = self(states, lengths, self.voice(voice_statistics(target, frames)))
        error = (mel - target) * length_mask(frames, target.shape[1])[..., None]
        return (error.abs().sum() + error.diff(dim=1).abs().sum()) / (frames.sum() * target.shape[2])


def voice_statistics(mel: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation over the first `frames` [B] of `mel` [B, T, M]: [B, 2 M]."""
    valid = length_mask(frames, mel.shape[1])[..., None]
    mean = (mel * valid).sum(dim=1) / frames[:, None]
    variance = ((mel - mean[:, None]).square() * valid).sum(dim=1) / frames[:, None]
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)
