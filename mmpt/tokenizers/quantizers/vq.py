"""A codebook learned by its gradient (van den Oord et al. 2017, eq. 3), as the released SEED trains it."""

from typing import Literal

import pydantic
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.config import Schema
from mmpt.kernels.nearest_code import nearest_code
from mmpt.tokenizers.quantizers.base import Quantized, without_loss


class VqConfig(Schema):
    """`codes` entries of `dim` values, drawn uniformly from ±1 ÷ codes. Neither started from data nor restarted.

    The loss is ‖sg(x) − q‖² + `beta` · ‖x − sg(q)‖². With `legacy`, `beta` weighs the first term instead of the second: the slip
    of taming-transformers that SEED's training keeps (AILab-CVC/SEED: lavis/models/blip2_models/quantize_semantic.py).
    """

    kind: Literal["vq"]
    codes: int = pydantic.Field(ge=1)
    dim: int = pydantic.Field(ge=1)
    beta: float = pydantic.Field(0.25, ge=0)
    legacy: bool = False

    @property
    def depth(self) -> int:
        return 1


class VectorQuantizer(nn.Module):
    """The codebook is a parameter [codes, dim]."""

    def __init__(self, config: VqConfig):
        super().__init__()
        self.config = config
        self.codebook = nn.Parameter(torch.empty(config.codes, config.dim).uniform_(-1 / config.codes, 1 / config.codes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]. In training the loss is over inputs where `mask` [...] (bool) is true (default: all)."""
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).float()
            codes = nearest_code(rows.detach(), self.codebook.detach())
            entries = F.embedding(codes, self.codebook).float()
            states = (rows + (entries - rows).detach()).to(x.dtype)
            found = without_loss(states.reshape(x.shape), codes.reshape(x.shape[:-1]))
            if not self.training:
                return found
            if mask is not None:
                rows, entries = rows[mask.reshape(-1)], entries[mask.reshape(-1)]
            pull = (entries - rows.detach()).square().mean(dim=1).sum()
            commitment = (rows - entries.detach()).square().mean(dim=1).sum()
            beta = self.config.beta
            loss = beta * pull + commitment if self.config.legacy else pull + beta * commitment
            return found._replace(loss=loss, count=loss.new_tensor(float(len(rows))))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors float32 [..., D] of `codes` [...]."""
        return F.embedding(codes, self.codebook).float()
