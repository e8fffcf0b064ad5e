"""Quantisers behind one interface: a vector in, a code and its vector out.

`EmaQuantizer`: a learned codebook that follows the data by exponential moving averages (van den Oord et al. 2017, appendix A),
started by k-means, with dead codes restarted (Jukebox, Dhariwal et al. 2020, section 3). `FiniteScalarQuantizer`: FSQ (Mentzer
et al. 2023), each of a few dimensions rounded to a few levels; no codebook, so nothing can die.
"""

from typing import Annotated, Literal, NamedTuple

import pydantic
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from mmpt.config import Schema
from mmpt.kernels.nearest_code import nearest_code


class Quantized(NamedTuple):
    """`states` [..., D] with straight-through gradient, `codes` [...] int64, `loss` scalar (0 outside training)."""

    states: torch.Tensor
    codes: torch.Tensor
    loss: torch.Tensor


class EmaConfig(Schema):
    """`codes` entries of `dim` values. `decay` of the averages; `commitment` weighs ‖x − sg(q)‖²; a code used less than
    `restart_below` of its uniform share is restarted from a random input every `restart_every` training steps."""

    kind: Literal["ema"] = "ema"
    codes: int
    dim: int
    decay: float = 0.99
    commitment: float = 0.25
    restart_below: float = 0.05
    restart_every: int = 20


class FsqConfig(Schema):
    """One entry for each dimension: how many values it takes. The codebook size is their product."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...]

    @property
    def codes(self) -> int:
        return int(torch.tensor(self.levels).prod())

    @property
    def dim(self) -> int:
        return len(self.levels)


QuantizerConfig = Annotated[EmaConfig | FsqConfig, pydantic.Field(discriminator="kind")]


def build_quantizer(config: EmaConfig | FsqConfig) -> nn.Module:
    return EmaQuantizer(config) if isinstance(config, EmaConfig) else FiniteScalarQuantizer(config)


class EmaQuantizer(nn.Module):
    """A codebook [codes, dim] held as running sums and counts, in float32; the entries are sums ÷ counts."""

    def __init__(self, config: EmaConfig):
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(config.codes, config.dim))
        self.register_buffer("sums", torch.zeros(config.codes, config.dim))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]. In training the codebook follows the inputs where `mask` [...] (bool) is true (default: all)."""
        rows = x.reshape(-1, x.shape[-1])
        valid = rows if mask is None else rows[mask.reshape(-1)]
        if self.training and self.steps == 0:
            self._start(valid.detach().float())
        codes = nearest_code(rows.detach(), self.codebook)
        quantized = F.embedding(codes, self.codebook)
        loss = rows.new_zeros(())
        if self.training:
            valid_codes = codes if mask is None else codes[mask.reshape(-1)]
            loss = self.config.commitment * F.mse_loss(valid.float(), F.embedding(valid_codes, self.codebook))
            self._follow(valid.detach().float(), valid_codes)
        states = rows + (quantized.to(rows.dtype) - rows).detach()
        return Quantized(states.reshape(x.shape), codes.reshape(x.shape[:-1]), loss)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] of `codes` [...]."""
        return F.embedding(codes, self.codebook)

    @torch.no_grad()
    def _start(self, rows: torch.Tensor, iterations: int = 10) -> None:
        """k-means on the first batch, from randomly chosen rows."""
        centers = self._sample(rows)
        for _ in range(iterations):
            sums, counts = self._assign(rows, nearest_code(rows, centers))
            centers = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centers)
        self._set(centers, torch.ones_like(self.counts))

    @torch.no_grad()
    def _follow(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        sums, counts = self._assign(rows, codes)
        total = counts.sum()
        self.sums.lerp_(sums / total.clamp_min(1) * self.config.codes, 1 - self.config.decay)
        self.counts.lerp_(counts / total.clamp_min(1) * self.config.codes, 1 - self.config.decay)
        self.steps += 1
        if self.steps % self.config.restart_every == 0:
            dead = self.counts < self.config.restart_below
            if dead.any():
                self.sums[dead] = self._sample(rows)[dead]
                self.counts[dead] = 1.0
        self.codebook.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])

    def _set(self, centers: torch.Tensor, counts: torch.Tensor) -> None:
        self.codebook.copy_(centers)
        self.sums.copy_(centers)
        self.counts.copy_(counts)

    def _assign(self, rows: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum and number of the rows of each code, over all ranks. One-hot matmul: a fixed order of summation; in float32
        whatever autocast says, since a codebook follows by small steps."""
        with torch.autocast(rows.device.type, enabled=False):
            one_hot = F.one_hot(codes, self.config.codes).to(rows.dtype)
            sums, counts = one_hot.t() @ rows, one_hot.sum(dim=0)
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
            dist.all_reduce(counts)
        return sums, counts

    def _sample(self, rows: torch.Tensor) -> torch.Tensor:
        """As many random rows as there are codes, with a little noise so that no two are equal; the same on every rank."""
        chosen = rows[torch.randint(len(rows), (self.config.codes,), device=rows.device)]
        chosen = chosen + 0.01 * rows.std() * torch.randn_like(chosen)
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.broadcast(chosen, 0)
        return chosen


class FiniteScalarQuantizer(nn.Module):
    """Dimension i, bounded by tanh, is rounded to `levels[i]` values spread evenly over −1 … 1 (Mentzer et al. 2023, eq. 1)."""

    def __init__(self, config: FsqConfig):
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels, dtype=torch.int64)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0), persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]; `mask` changes nothing here, it is in the interface for quantisers that learn."""
        top = (self.levels - 1).to(torch.float32)
        position = (torch.tanh(x.float()) + 1) / 2 * top  # 0 … levels − 1
        digits = position.round()
        states = (position + (digits - position).detach()) / top * 2 - 1
        codes = (digits.detach().to(torch.int64) * self.basis).sum(dim=-1)
        return Quantized(states.to(x.dtype), codes, x.new_zeros(()))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] in −1 … 1 of `codes` [...]."""
        digits = codes[..., None] // self.basis % self.levels
        return digits.to(torch.float32) / (self.levels - 1) * 2 - 1


def codebook_use(codes: torch.Tensor, size: int) -> dict[str, float]:
    """Health of a codebook over `codes` (any shape): share of entries `used`, `perplexity`, and `entropy` ÷ log(size)."""
    counts = torch.bincount(codes.reshape(-1), minlength=size).double()
    shares = counts / counts.sum().clamp_min(1)
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum()
    return {
        "used": float((counts > 0).double().mean()),
        "perplexity": float(entropy.exp()),
        "entropy": float(entropy / torch.tensor(float(size)).log().clamp_min(1e-12)),
    }
