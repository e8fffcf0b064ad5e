"""Residual vector quantisation: each stage quantises what the stages before it left (Zeghidour et al. 2021, algorithm 1)."""

import torch
from torch import nn

from mmpt.tokenizers.quantizer_config import ResidualConfig
from mmpt.tokenizers.quantizers.base import Quantized
from mmpt.tokenizers.quantizers.ema import EmaQuantizer


class ResidualQuantizer(nn.Module):
    """`stages` codebooks one behind the other; a vector is the sum of its entries."""

    def __init__(self, config: ResidualConfig):
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(EmaQuantizer(config.stage) for _ in range(config.stages))

    @property
    def restarts(self) -> torch.Tensor:
        """Dead codes restarted so far, over all stages."""
        return sum(stage.restarts for stage in self.stages)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]; codes are [..., stages]. The loss is the mean over the stages."""
        rest, total = x, torch.zeros_like(x)
        codes, losses = [], []
        for number, stage in enumerate(self.stages):
            found = stage(rest, mask)
            vectors = stage.decode(found.codes).to(x.dtype)
            rest, total = rest - vectors, total + vectors
            codes.append(found.codes + number * self.config.stage.codes)
            losses.append(found.loss)
        states = x + (total - x).detach()
        return Quantized(states, torch.stack(codes, dim=-1), torch.stack(losses).mean(), found.count)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors float32 [..., D] of `codes` [..., stages]."""
        return sum(
            stage.decode(codes[..., number] - number * self.config.stage.codes) for number, stage in enumerate(self.stages)
        )
