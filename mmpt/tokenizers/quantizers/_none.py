"""The module of `Unquantized`."""

import torch

from mmpt.errors import DataError
from mmpt.tokenizers.quantized import Quantized, QuantizerModule, without_loss
from mmpt.tokenizers.quantizers.none import Unquantized


class NoQuantizer(QuantizerModule):
    """`forward` gives its input back, with code 0 everywhere."""

    def __init__(self, config: Unquantized):
        super().__init__()
        self.config = config

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        return without_loss(x, torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Raises `DataError`: nothing can be made of codes that say nothing."""
        raise DataError("without a quantiser there are no codes to decode")
