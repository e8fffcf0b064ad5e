"""The module of `Residual`."""

from typing import cast

import torch
from torch import nn

from mmpt.kernels.nearest_code import nearest_code
from mmpt.tokenizers.quantized import Quantized, QuantizerModule
from mmpt.tokenizers.quantizers._ema import EmaQuantizer
from mmpt.tokenizers.quantizers.residual import Residual


class ResidualQuantizer(QuantizerModule):
    """`stages` codebooks one behind the other; a vector is the sum of its entries."""

    def __init__(self, config: Residual):
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(EmaQuantizer(config.stage) for _ in range(config.stages))

    def _stages(self) -> list[EmaQuantizer]:
        return cast(list[EmaQuantizer], list(self.stages))  # a ModuleList is of nn.Module to the type checker

    def begin(self, rows: torch.Tensor) -> None:
        residual = rows.float()
        for stage in self._stages():
            stage.begin(residual)
            residual = residual - stage.decode(nearest_code(stage.bounded(residual), stage.codebook))

    def restart_count(self) -> int:
        return sum(stage.restart_count() for stage in self._stages())

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        # Each stage learns of what is left by itself; the loss is the mean over the stages.
        residual, total = x, torch.zeros_like(x)
        codes: list[torch.Tensor] = []
        losses: list[torch.Tensor] = []
        count = x.new_zeros((), dtype=torch.float32)
        for number, stage in enumerate(self._stages()):
            found = stage(residual, mask)
            vectors = stage.decode(found.codes).to(x.dtype)
            residual, total = residual - vectors, total + vectors
            codes.append(found.codes + number * self.config.stage.codes)
            losses.append(found.loss)
            count = found.count
        states = x + (total - x).detach()
        return Quantized(states, torch.stack(codes, dim=-1), torch.stack(losses).mean(), count)

    def parts(self, codes: torch.Tensor) -> torch.Tensor:
        """What each stage gives of the vectors of `codes` [..., stages]: float32 [..., stages, D]."""
        size = self.config.stage.codes
        found = [stage.decode(codes[..., number] - number * size) for number, stage in enumerate(self._stages())]
        return torch.stack(found, dim=-2)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        first, *others = self._stages()
        total = first.decode(codes[..., 0])
        for number, stage in enumerate(others, 1):
            total = total + stage.decode(codes[..., number] - number * self.config.stage.codes)
        return total
