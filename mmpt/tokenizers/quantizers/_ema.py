"""The module of `Ema`.

What it learns from is summed over all ranks, and what it draws is drawn from the inputs of all ranks in their order by a seed of
its own: the same global batches give the same codebook on any number of ranks.
"""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

from mmpt.kernels.nearest_code import nearest_code
from mmpt.tokenizers.kmeans import assigned, kmeans, sampled
from mmpt.tokenizers.quantized import ExactBuffers, Quantized, of_all_ranks, ranks, without_loss
from mmpt.tokenizers.quantizers.ema import Ema

LEAST_USED = 0.1
"""Share of the codes used between two looks for dead ones below which every unused code is restarted at once."""


class EmaQuantizer(ExactBuffers):
    """A codebook [codes, dim] held as running sums and counts; the entries are sums ÷ counts.

    `restarts` counts the dead codes that were restarted. All of it stays float32 whatever the module is cast to: at decay 0.99 a
    step is smaller than what bfloat16 can tell apart.
    """

    codebook: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor
    steps: torch.Tensor
    restarts: torch.Tensor
    seen: torch.Tensor

    def __init__(self, config: Ema):
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(config.codes, config.dim))
        self.register_buffer("sums", torch.zeros(config.codes, config.dim))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(config.codes))  # how often each was used since the last look for dead ones

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        state_dict.setdefault(f"{prefix}seen", torch.zeros_like(self.seen))  # saved before it was counted
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        # Nearest codes are chosen in float32: in bfloat16 neighbours of a large codebook have equal distances.
        with torch.autocast(x.device.type, enabled=False):
            rows = self.bounded(x).reshape(-1, x.shape[-1])
            exact = rows.detach().float()
            valid = exact[mask.reshape(-1)] if self.training and mask is not None else exact
            if self.training and self.steps == 0:
                self._start(valid)
            codes = nearest_code(exact, self.codebook)
            quantized = F.embedding(codes, self.codebook)
            # Straight-through: the value of the entry, the gradient of the input.
            states = rows + (quantized.to(rows.dtype) - rows).detach()
            found = without_loss(states.reshape(x.shape), codes.reshape(x.shape[:-1]))
            if not self.training:
                return found
            valid_codes = codes if mask is None else codes[mask.reshape(-1)]
            learning = rows if mask is None else rows[mask.reshape(-1)]
            distance = (learning.float() - F.embedding(valid_codes, self.codebook)).square().mean(dim=1).sum()
            self._follow(valid, valid_codes)
        return replace(found, loss=self.config.commitment * distance, count=distance.new_tensor(float(len(valid))))

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., D] as it is before its code is chosen: of one length where the configuration says so."""
        return _of_one_length(x) if self.config.normalize else x

    def begin(self, rows: torch.Tensor) -> None:
        self._start(self.bounded(rows.float()))
        self.steps += 1

    def restart_count(self) -> int:
        return int(self.restarts)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return F.embedding(codes, self.codebook)

    @torch.no_grad()
    def _start(self, rows: torch.Tensor) -> None:
        """k-means on the first batch, from randomly chosen rows; or no look at the data at all."""
        if self.config.start == "uniform":
            draw = torch.Generator().manual_seed(self.config.seed)
            random = 2 * torch.rand(self.config.codes, self.config.dim, generator=draw) - 1
            self._set((random / self.config.codes).to(rows.device))
            return
        rows = of_all_ranks(rows)
        self._set(kmeans(rows, self._sample(rows)))

    def _set(self, entries: torch.Tensor) -> None:
        self.codebook.copy_(self._entries(entries))
        self.sums.copy_(entries)
        self.counts.fill_(1.0)

    def _entries(self, means: torch.Tensor) -> torch.Tensor:
        return _of_one_length(means) if self.config.normalize else means

    @torch.no_grad()
    def _follow(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        # One sum over the ranks for sums and counts together: every rank then takes the same step.
        found = assigned(rows, codes, self.config.codes)
        if ranks() > 1:
            dist.all_reduce(found)
        sums, counts = found[:, :-1], found[:, -1]
        total = counts.sum().clamp_min(1)
        # In units of a uniform share: 1 is what a code of average use gets, whatever the batch holds.
        self.sums.lerp_(sums / total * self.config.codes, 1 - self.config.decay)
        self.counts.lerp_(counts / total * self.config.codes, 1 - self.config.decay)
        self.seen += counts
        self.steps += 1
        if self.config.decay < 1 and self.steps % self.config.restart_every == 0:
            dead = self.counts < self.config.restart_below
            unused = self.seen == 0
            # A collapse: averages of 0.99 would show it some 300 steps later. Not where there were too few inputs for more codes.
            if (~unused).float().mean() < LEAST_USED and self.seen.sum() >= self.config.codes:
                dead |= unused
            self.seen.zero_()
            if dead.any():
                self.sums[dead] = self._sample(of_all_ranks(rows))[dead]
                self.counts[dead] = 1.0
                self.restarts += dead.sum()
        self.codebook.copy_(self._entries(self.sums / self.counts.clamp_min(1e-5)[:, None]))

    def _sample(self, rows: torch.Tensor) -> torch.Tensor:
        return sampled(rows, self.config.codes, self.config.seed * 1_000_003 + int(self.steps))


def _of_one_length(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x.float(), dim=-1).to(x.dtype) * math.sqrt(x.shape[-1])
