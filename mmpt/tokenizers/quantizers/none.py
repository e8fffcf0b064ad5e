"""No quantiser at all: the same network with its states left as they are, against which the cost of codes is measured."""

import torch
from torch import nn

from mmpt.tokenizers.quantizer_config import NoneConfig
from mmpt.tokenizers.quantizers.base import Quantized, without_loss


class NoQuantizer(nn.Module):
    """`forward` gives its input back, with code 0 everywhere."""

    def __init__(self, config: NoneConfig):
        super().__init__()
        self.config = config

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        return without_loss(x, torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device))
