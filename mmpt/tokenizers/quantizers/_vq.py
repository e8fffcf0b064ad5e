"""The module of `Vq`."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.kernels.nearest_code import nearest_code
from mmpt.tokenizers.kmeans import kmeans, sampled
from mmpt.tokenizers.quantized import Quantized, QuantizerModule, of_all_ranks, without_loss
from mmpt.tokenizers.quantizers.vq import Vq


class VectorQuantizer(QuantizerModule):
    """The codebook is a parameter [codes, dim]."""

    def __init__(self, config: Vq):
        super().__init__()
        self.config = config
        self.codebook = nn.Parameter(torch.empty(config.codes, config.dim).uniform_(-1 / config.codes, 1 / config.codes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).float()
            codes = nearest_code(rows.detach(), self.codebook.detach())
            entries = F.embedding(codes, self.codebook).float()
            # Straight-through: the value of the entry, the gradient of the input, and with `task` of the entry too.
            to_entries = entries if self.config.task else entries.detach()
            states = (to_entries + (rows - rows.detach())).to(x.dtype)
            found = without_loss(states.reshape(x.shape), codes.reshape(x.shape[:-1]))
            if not self.training:
                return found
            if mask is not None:
                rows, entries = rows[mask.reshape(-1)], entries[mask.reshape(-1)]
            # `pull` moves the entries to their inputs, `commitment` the inputs to their entries.
            pull = (entries - rows.detach()).square().mean(dim=1).sum()
            commitment = (rows - entries.detach()).square().mean(dim=1).sum()
            beta = self.config.beta
            loss = beta * pull + commitment if self.config.legacy else pull + beta * commitment
            return replace(found, loss=loss, count=loss.new_tensor(float(len(rows))))

    @torch.no_grad()
    def begin(self, rows: torch.Tensor) -> None:
        rows = of_all_ranks(rows.float())
        self.codebook.copy_(kmeans(rows, sampled(rows, self.config.codes, seed=0)))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return F.embedding(codes, self.codebook).float()
