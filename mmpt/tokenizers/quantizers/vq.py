"""A codebook learned by its gradient (van den Oord et al. 2017, eq. 3), as the released SEED trains it."""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.kernels.nearest_code import nearest_code
from mmpt.tokenizers.quantizer_config import VqConfig
from mmpt.tokenizers.quantizers.base import Quantized, without_loss


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
