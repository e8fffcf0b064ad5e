"""Conditional flow matching: noise → log-mel, along straight paths, given a coarse log-mel and a voice.

Lipman et al. 2022, section 4.1 (optimal-transport paths), on a coarse prediction as in Matcha-TTS (Mehta et al. 2023), with
classifier-free guidance and a prompt as in CosyVoice (Du et al. 2024, section 3.3). The coarse log-mel is a mean over all ways to
say what the codes say; the flow draws one of them.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from mmpt.layers.convolution import KERNEL, ConvBlock
from mmpt.layers.masks import length_mask
from mmpt.layers.positions import sinusoids
from mmpt.tokenizers.speech.config import FlowConfig
from mmpt.tokenizers.terms import Term

SIGMA = 1e-4  # what is left of the noise at the end of a path
DROPPED = 0.2  # share of utterances that are learned without their condition, for guidance
PROMPTED = 0.5  # share of utterances of which a beginning is given
LONGEST_PROMPT = 0.8  # of the utterance
_NOISE_BLOCK = 64  # frames whose noise is drawn together


class FlowDecoder(nn.Module):
    """A velocity field over log-mels [B, T, mels]: convolutional blocks, each shifted and scaled by the time on the path."""

    def __init__(self, config: FlowConfig, mels: int, voice: int, causal: bool):
        super().__init__()
        self.config, self.mels, self.causal = config, mels, causal
        dim = config.dim
        self.embed = nn.Linear(3 * mels, dim)
        self.voice = nn.Linear(voice, dim)
        first, shifts = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim * config.blocks)
        self.time = nn.Sequential(first, nn.SiLU(), shifts)
        self.blocks = nn.ModuleList(ConvBlock(dim, causal) for _ in range(config.blocks))
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, mels))
        # The time starts without effect, so that blocks learn what all times have in common first.
        nn.init.zeros_(shifts.weight)
        nn.init.zeros_(shifts.bias)

    @property
    def reach(self) -> tuple[int, int]:
        """How many frames before and after it a frame depends on, over all steps of `sample`."""
        one = self.config.blocks * (KERNEL - 1) * self.config.steps
        return (one, 0) if self.causal else (one // 2, one // 2)

    def velocity(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        coarse: torch.Tensor,
        mask: torch.Tensor,
        voice: torch.Tensor,
        prompt: torch.Tensor,
    ) -> torch.Tensor:
        """[B, T, mels] at `x` and `time` [B] in 0 … 1; `mask` [B, T, 1]; `prompt` [B, T, mels] is 0 where none is given."""
        shifts = self.time(sinusoids(1000 * time, self.config.dim).to(x.dtype))[:, None].chunk(2 * len(self.blocks), dim=-1)
        y = self.embed(torch.cat([x, coarse, prompt], dim=-1)) + self.voice(voice)[:, None]
        for block, scale, shift in zip(self.blocks, shifts[::2], shifts[1::2], strict=True):
            y = block(y * (1 + scale) + shift, mask)
        return self.out(y)

    def loss(
        self, target: torch.Tensor, coarse: torch.Tensor, frames: torch.Tensor, voice: torch.Tensor, learned: torch.Tensor
    ) -> Term:
        """Squared distance from the velocity of the straight path to `target` [B, T, mels], of which `frames` [B] are valid, for
        each value where `learned` [B, T] but in a given prompt."""
        mask = length_mask(frames, target.shape[1])[..., None]
        time = 1 - torch.cos(0.5 * math.pi * torch.rand(len(target), device=target.device))  # denser where noise prevails
        noise = torch.randn_like(target)
        along = time[:, None, None]
        x = (1 - (1 - SIGMA) * along) * noise + along * target
        # A beginning of some utterances is given as it is, so that a prompt can be gone on from; it is not to be learned.
        share = LONGEST_PROMPT * torch.rand(len(target), device=target.device)
        share = share * (torch.rand_like(share) < PROMPTED)
        given = length_mask((share * frames).long(), target.shape[1])[..., None]
        # Some learn without any condition: what guidance compares with.
        kept = (torch.rand_like(share) >= DROPPED)[:, None]
        coarse, voice, prompt = coarse * kept[..., None], voice * kept, target * given * kept[..., None]
        error = self.velocity(x, time, coarse, mask, voice, prompt) - (target - (1 - SIGMA) * noise)
        counted = learned[..., None] & ~given
        return Term((error.float().square() * counted).sum(), (counted.sum() * self.mels).float())

    def sample(
        self,
        coarse: torch.Tensor,
        frames: torch.Tensor,
        voice: torch.Tensor,
        starts: Sequence[int],
        seed: int = 0,
        prompt: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-mel [B, T, mels] for `coarse` [B, T, mels], of which `frames` [B] are valid, in `voice` [B, V], by Euler steps.

        The noise of a frame is a function of `seed` and its position alone, the first of each row having its position of `starts`
        [B]: pieces decoded with `reach` frames more on each side are those of the whole. `prompt` [B, P, mels]: the first P
        frames, as they are."""
        mask = length_mask(frames, coarse.shape[1])[..., None]
        x = torch.stack([noise(start, coarse.shape[1], self.mels, seed) for start in starts]).to(coarse)
        given = torch.zeros_like(coarse)
        if prompt is not None:
            given[:, : prompt.shape[1]] = prompt
        steps = self.config.steps
        # Short steps first, where noise prevails and the direction changes most (Matcha-TTS and CosyVoice: cosine).
        times = 1 - torch.cos(torch.linspace(0, 0.5 * math.pi, steps + 1))
        empty, nobody, guidance = torch.zeros_like(coarse), torch.zeros_like(voice), self.config.guidance
        for now, later in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            time = x.new_full((len(x),), now)
            direction = self.velocity(x, time, coarse, mask, voice, given)
            if guidance:
                direction = (1 + guidance) * direction - guidance * self.velocity(x, time, empty, mask, nobody, empty)
            x = x + (later - now) * direction
        if prompt is not None:
            x[:, : prompt.shape[1]] = prompt
        return x


def noise(start: int, frames: int, mels: int, seed: int) -> torch.Tensor:
    """Normal noise [frames, mels] of the frames from position `start` on, each a function of its position and `seed`."""
    # Drawn in blocks that are counted from the beginning of the whole: a piece has the noise it has in the whole.
    first = start // _NOISE_BLOCK
    blocks = range(first, -(-(start + frames) // _NOISE_BLOCK))
    drawn = [
        torch.randn(_NOISE_BLOCK, mels, generator=torch.Generator().manual_seed(seed * 1_000_003 + block)) for block in blocks
    ]
    return torch.cat(drawn)[start - first * _NOISE_BLOCK :][:frames] if drawn else torch.zeros(0, mels)
