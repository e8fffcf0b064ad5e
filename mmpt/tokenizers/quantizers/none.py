"""No quantiser at all: the same network with its states left as they are, against which the cost of codes is measured."""

from typing import Literal

import pydantic
import torch
from torch import nn

from mmpt.config import Schema
from mmpt.tokenizers.quantizers.base import Quantized, without_loss


class NoneConfig(Schema):
    """States of `dim` values pass unchanged; there are no codes."""

    kind: Literal["none"] = "none"
    dim: int = pydantic.Field(ge=1)

    @property
    def codes(self) -> int:
        return 0

    @property
    def depth(self) -> int:
        return 1


class NoQuantizer(nn.Module):
    """`forward` gives its input back, with code 0 everywhere."""

    def __init__(self, config: NoneConfig):
        super().__init__()
        self.config = config

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        return without_loss(x, torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device))
