"""The module of `Fsq`."""

import math
from dataclasses import replace

import torch
import torch.distributed as dist
from torch.nn import functional as F

from mmpt.tokenizers.quantized import ExactBuffers, Quantized, of_all_ranks, ranks, without_loss
from mmpt.tokenizers.quantizers.fsq import Fsq

SOFTNESS = 0.1  # temperature of the soft codes that `spread` counts, in squared distances of levels
MEMORY = 0.9  # of the running mean of their shares: a batch of speech holds too few codes to tell which lie idle
DEVIATION = 0.8  # what a standard deviation becomes before tanh; of 4 levels it puts the edges where they are best for a Gaussian


class FiniteScalarQuantizer(ExactBuffers):
    """Dimension i, bounded by tanh, is rounded to `levels[i]` values spread evenly over −1 … 1 (Mentzer et al. 2023, eq. 1).

    Of wider vectors, coordinate i along the principal axes is: into = `down` · (x − `mean`); back = `mean` + `up` · rounded.
    These do not learn: what comes before and after does.
    """

    levels: torch.Tensor
    basis: torch.Tensor
    shares: torch.Tensor
    started: torch.Tensor
    mean: torch.Tensor
    down: torch.Tensor
    up: torch.Tensor

    def __init__(self, config: Fsq):
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels, dtype=torch.int64)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0), persistent=False)
        if config.spread:
            sizes = [math.prod(config.levels[i] for i in group) for group in _groups(config.levels)]
            self.register_buffer("shares", torch.cat([torch.full((size,), 1 / size) for size in sizes]))
        self.projected = config.dim > len(levels)
        if self.projected:
            self.register_buffer("started", torch.zeros((), dtype=torch.bool))
            self.register_buffer("mean", torch.zeros(config.dim))
            self.register_buffer("down", torch.eye(len(levels), config.dim))
            self.register_buffer("up", torch.eye(config.dim, len(levels)))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        with torch.autocast(x.device.type, enabled=False):
            exact = x.float()
            if self.projected:
                if self.training and not self.started:
                    self._start((exact if mask is None else exact[mask]).detach().reshape(-1, self.config.dim))
                exact = (exact - self.mean) @ self.down.t()
            states, codes = self._rounded(exact)
            found = without_loss(self._back(states).to(x.dtype), codes)
            if not self.training or not self.config.spread:
                return found
            rows = (exact if mask is None else exact[mask]).reshape(-1, exact.shape[-1])
            loss = self.config.spread * self._unevenness(rows)
            return replace(found, loss=loss, count=loss.new_tensor(float(len(rows))))

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., D] as it is to be used until it is quantised: within −1 … 1 where no axes will be chosen to fit it."""
        return x if self.projected else torch.tanh(x)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        # A code is a number of mixed radix, dimension i its digit of weight `basis[i]`.
        digits = codes[..., None] // self.basis % self.levels
        return self._back(digits.to(torch.float32) / (self.levels - 1) * 2 - 1)

    def _rounded(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States [..., levels] in −1 … 1 with straight-through gradient, and codes [...]."""
        top = (self.levels - 1).to(torch.float32)
        position = (torch.tanh(x) + 1) / 2 * top  # 0 … levels − 1
        digits = position.round()
        states = (position + (digits - position).detach()) / top * 2 - 1
        return states, (digits.detach().to(torch.int64) * self.basis).sum(dim=-1)

    def _unevenness(self, rows: torch.Tensor) -> torch.Tensor:
        """Σ p · log(K · share) over the soft codes p of `rows` [n, dimensions] of this rank, summed over groups of dimensions.

        The shares are held: the gradient is that of log K − H of the mean of p where that is the shares, whatever the ranks.
        """
        position = (torch.tanh(rows) + 1) / 2
        found, start = rows.new_zeros(()), 0
        for group in _groups(self.config.levels):
            soft = rows.new_ones(len(rows), 1)
            for i in group:
                levels = torch.arange(self.config.levels[i], device=rows.device)
                distance = (position[:, i, None] * (self.config.levels[i] - 1) - levels).square()
                # The soft code of a group is the product of those of its dimensions.
                soft = (soft[:, :, None] * torch.softmax(-distance / SOFTNESS, dim=1)[:, None]).flatten(1)
            total = F.pad(soft.detach().sum(dim=0), (0, 1), value=float(len(rows)))
            if ranks() > 1:
                dist.all_reduce(total)
            # Held outside the graph: the gradient is of the soft codes under fixed log-shares, equal on one rank and on many.
            shares = self.shares[start : start + soft.shape[1]]
            if total[-1]:
                shares.mul_(MEMORY).add_(total[:-1] / total[-1], alpha=1 - MEMORY)
            found = found + (soft * (shares.clamp_min(1e-9) * soft.shape[1]).log()).sum()
            start += soft.shape[1]
        return found

    def _back(self, states: torch.Tensor) -> torch.Tensor:
        return states @ self.up.t() + self.mean if self.projected else states

    @torch.no_grad()
    def _start(self, rows: torch.Tensor) -> None:
        """Principal axes of the rows of all ranks; the way back is the least-squares fit along each."""
        rows = of_all_ranks(rows).double()
        mean = rows.mean(dim=0)
        # In float64: a covariance in float32 loses the narrow axes beside the wide ones. eigh gives the narrowest first.
        spread, axes = torch.linalg.eigh((rows - mean).t() @ (rows - mean) / len(rows))
        axes = axes.flip(1)[:, : len(self.levels)].t()
        axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()  # eigenvectors have no sign of their own
        widths = spread.flip(0)[: len(self.levels)].clamp_min(1e-12).sqrt()
        self.mean.copy_(mean)
        self.down.copy_(DEVIATION * axes / widths[:, None])
        # What rounding gives back is not of the input's scale: each axis is stretched to where its error is least.
        states, _ = self._rounded(((rows - mean) @ self.down.double().t()).float())
        found = (rows - mean) @ axes.t()
        gains = (found * states).sum(dim=0) / states.square().sum(dim=0).clamp_min(1e-12)
        self.up.copy_(axes.t() * gains)
        self.started.fill_(True)


def _groups(levels: tuple[int, ...]) -> list[list[int]]:
    """Dimensions one after the other, together as long as they make at most 1,024 codes."""
    found: list[list[int]] = [[]]
    size = 1
    for i, count in enumerate(levels):
        if found[-1] and size * count > 1024:
            found.append([])
            size = 1
        found[-1].append(i)
        size *= count
    return found
