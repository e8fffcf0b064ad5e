"""Whose voice it is: a vector of how somebody sounds in a stretch of speech."""

import torch
from torch import nn

from mmpt.layers.convolution import ConvBlock
from mmpt.layers.masks import length_mask
from mmpt.tokenizers.speech.config import ReferenceConfig


class ReferenceEncoder(nn.Module):
    """Convolutional blocks over a log-mel, then attentive statistics (Okabe et al. 2018, arXiv:1803.10963): mean and deviation
    over time, each value weighted by what a small network thinks of its frame.

    It learns from what the decoder makes of other stretches of the same utterance, as the reference encoder of Skerry-Ryan et al.
    2018 (arXiv:1803.09047) does from the same one: nobody has to say who speaks, and what is said there is of no use."""

    def __init__(self, config: ReferenceConfig, mels: int, voice: int):
        super().__init__()
        self.config, dim = config, config.dim
        self.embed = nn.Linear(mels, dim)
        self.blocks = nn.ModuleList(ConvBlock(dim) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(dim)
        self.weigh = nn.Sequential(nn.Linear(dim, dim // 2), nn.Tanh(), nn.Linear(dim // 2, dim))
        learned = voice - 2 * mels
        self.out = nn.Sequential(nn.Linear(2 * dim, learned), nn.LayerNorm(learned, elementwise_affine=False))

    def forward(self, mel: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
        """Voices [B, voice] of `mel` [B, T, mels], where `stretch` [B, T] is true: first the mean and the deviation of each band,
        then what is learned."""
        known = statistics(mel, stretch)
        x = self.embed(mel)
        for block in self.blocks:
            x = block(x, stretch[..., None])
        x = self.norm(x)
        weights = self.weigh(x).masked_fill(~stretch[..., None], -torch.inf).softmax(dim=1)
        mean = (weights * x).sum(dim=1)
        variance = (weights * x.square()).sum(dim=1) - mean.square()
        return torch.cat([known, self.out(torch.cat([mean, variance.clamp_min(1e-6).sqrt()], dim=1))], dim=1)


def statistics(mel: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of each band of `mel` [B, T, M] where `stretch` [B, T] is true: [B, 2 M]."""
    valid, count = stretch[..., None], stretch.sum(dim=1, keepdim=True)
    mean = (mel * valid).sum(dim=1) / count
    variance = ((mel - mean[:, None]).square() * valid).sum(dim=1) / count
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)


def stretches(frames: torch.Tensor, size: int, config: ReferenceConfig) -> torch.Tensor:
    """Of each utterance of `frames` [B], drawn at random, the stretch that its voice is taken of, [B, size]: a beginning or an
    end."""
    share = config.shortest + (config.longest - config.shortest) * torch.rand(len(frames), device=frames.device)
    taken = (share * frames).long().clamp_min(1)
    valid, first = length_mask(frames, size), length_mask(taken, size)
    last = valid & ~length_mask(frames - taken, size)
    return torch.where(torch.rand(len(frames), 1, device=frames.device) < 0.5, first, last)


def commonest(voices: torch.Tensor) -> int:
    """Which of `voices` [n, dim] stands where they are densest: the one whose nearest quarter of the others is nearest. What lies
    between all of them, as a medoid does, may be the voice of nobody."""
    count = len(voices)
    near = torch.cdist(voices, voices).kthvalue(min(count, 1 + (count + 2) // 4), dim=0).values  # itself is the first
    return int(near.argmin())
