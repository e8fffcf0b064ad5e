"""Conditional flow matching over pixels: noise → image along straight paths, given the codes and a coarse image.

Lipman et al. 2022, section 4.1; classifier-free guidance as in Ho and Salimans 2022. The coarse image is a mean over all
images that have these codes; the flow draws one of them.
"""

import torch
from torch import nn

from mmpt.layers.positions import sinusoids
from mmpt.tokenizers.image.config import PixelFlowConfig
from mmpt.tokenizers.terms import Term

KERNEL = 5
LEAST_LEFT = 0.05  # of the way, below which a step is not divided by what is left


class PixelBlock(nn.Module):
    """Depthwise convolution, then a pointwise MLP (ConvNeXt, Liu et al. 2022), on `x` [B, dim, H, W], shifted and scaled by the
    condition [B, 2 · dim]."""

    def __init__(self, dim: int):
        super().__init__()
        self.spread = nn.Conv2d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.GroupNorm(1, dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1), nn.GELU(), nn.Conv2d(2 * dim, dim, 1))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = condition[..., None, None].chunk(2, dim=1)
        return x + self.mlp(self.norm(self.spread(x)) * (1 + scale) + shift)


class PixelFlow(nn.Module):
    """A velocity field over images [B, channels, side, side]: pixels, or latents."""

    def __init__(self, config: PixelFlowConfig, side: int, queries: int, code_dim: int, channels: int = 3):
        super().__init__()
        self.config, self.shape = config, (channels, side, side)
        dim, patch = config.dim, config.patch
        self.embed = nn.Conv2d(2 * channels, dim, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(dim, side // patch, side // patch))
        self.codes = nn.Linear(queries * code_dim, dim)
        self.time = nn.Linear(dim, dim)
        known = nn.Linear(dim, 2 * dim * config.blocks)
        self.condition = nn.Sequential(nn.SiLU(), known)
        self.blocks = nn.ModuleList(PixelBlock(dim) for _ in range(config.blocks))
        self.out = nn.Sequential(nn.GroupNorm(1, dim), nn.Conv2d(dim, channels * patch**2, 3, padding=1), nn.PixelShuffle(patch))
        # The condition starts without effect, so that the blocks learn to pass the image on before they learn to change it.
        nn.init.zeros_(known.weight)
        nn.init.zeros_(known.bias)

    def velocity(self, x: torch.Tensor, time: torch.Tensor, coarse: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """[B, channels, side, side] at `x` and `time` [B] in 0 … 1, given `coarse`, of that shape, and `vectors`."""
        known = self.codes(vectors.flatten(1)) + self.time(sinusoids(1000 * time, self.config.dim).to(vectors.dtype))
        conditions = self.condition(known).chunk(len(self.blocks), dim=-1)
        y = self.embed(torch.cat([x, coarse], dim=1)) + self.positions
        for block, condition in zip(self.blocks, conditions, strict=True):
            y = block(y, condition)
        # The network says what the image is, and the velocity leads there: an image lies near a surface of few dimensions,
        # noise and velocity do not (Li and He 2025, "Back to basics: let denoising generative models denoise").
        left = (1 - time).clamp_min(LEAST_LEFT)[:, None, None, None]
        return (self.out(y) - x) / left

    def loss(self, pixels: torch.Tensor, coarse: torch.Tensor, vectors: torch.Tensor) -> Term:
        """Squared distance from the velocity of the straight path to `pixels` [B, channels, side, side], for each value."""
        time = torch.sigmoid(torch.randn(len(pixels), device=pixels.device))  # denser in the middle (Esser et al. 2024)
        noise = torch.randn_like(pixels)
        along = time[:, None, None, None]
        found = self.velocity((1 - along) * noise + along * pixels, time, coarse, vectors)
        error = (found.float() - (pixels - noise)).square()
        return Term(error.sum(), error.new_tensor(float(error.numel())))

    def sample(
        self,
        conditions: tuple[torch.Tensor, torch.Tensor],
        nothing: tuple[torch.Tensor, torch.Tensor],
        seed: int,
        guidance: float | None = None,
    ) -> torch.Tensor:
        """Images [B, channels, side, side] for `conditions` (coarse, vectors), `nothing` being without any code; by Euler steps.

        The noise is the same for every image, a function of `seed`: what is drawn does not depend on the batch.
        """
        coarse, vectors = conditions
        guidance = self.config.guidance if guidance is None else guidance
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)).to(coarse).expand_as(coarse)
        times = torch.linspace(0, 1, self.config.steps + 1).tolist()
        for now, later in zip(times[:-1], times[1:], strict=True):
            time = x.new_full((len(x),), now)
            direction = self.velocity(x, time, coarse, vectors)
            if guidance:  # away from what would be drawn without any code
                direction = (1 + guidance) * direction - guidance * self.velocity(x, time, *nothing)
            x = x + (later - now) * direction
        return x
