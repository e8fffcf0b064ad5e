"""A decoder's matrices at rest in four bits each, under adapters that learn (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

from collections.abc import Callable
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.data.extra import need
from mmpt.errors import ConfigError
from mmpt.model.factors import plain_layers
from mmpt.model.hollow import SOURCE, values

BLOCK, BLOCKS = 64, 256
"""Weights that share a scale, and scales (8 bits each) that share one of their own (float32): section 3 of the paper."""
BYTES = 0.5 + 1 / BLOCK + 4 / (BLOCK * BLOCKS)
"""Of a weight, its scales included."""
TUNERS = ("IA3", "LORA", "VERA")
"""What peft calls those that ask of what they adapt its product alone."""


class _Product(torch.autograd.Function):
    """x · Wᵀ, W made anew in the backward pass: autograd would keep every layer's whole matrix until then."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Callable[[], Tensor]) -> Tensor:
        ctx.weight = weight
        return x @ weight().to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.weight().to(gradient.dtype), None


class FourBitLinear(nn.Module):
    """[..., I] → [..., O] by a matrix in 4-bit NormalFloat with scales that are quantised in turn, as bitsandbytes has them.

    The input gets a gradient, the matrix none: it is made whole for a product, forward and backward, and dropped again. It is no
    parameter, and no part of the state: its weights are saved where they came from."""

    packed: Tensor

    def __init__(self, plain: nn.Linear, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        self._scales: Any = None
        packed = torch.empty((self.numbers + 1) // 2, 1, dtype=torch.uint8, device="meta")
        if getattr(plain.weight, SOURCE, ...) is not None:  # else it is a plan, in which nothing has values
            # In rows of one block: on a CPU, bitsandbytes 0.50 reads rows wrong that are no whole number of blocks.
            rows = (-1, BLOCK) if self.numbers % BLOCK == 0 else (1, -1)
            packed, self._scales = need("bitsandbytes.functional", "qlora").quantize_4bit(
                values(plain.weight).reshape(rows).to(device), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
            )
        self.register_buffer("packed", packed, persistent=False)

    @property
    def numbers(self) -> int:
        """How many weights it stands for."""
        return self.in_features * self.out_features

    def weight(self) -> Tensor:
        """[O, I], what the four bits say."""
        found = need("bitsandbytes.functional", "qlora").dequantize_4bit(self.packed, self._scales)
        return found.view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            found = cast(Tensor, _Product.apply(x.to(dtype), self.weight))
        return found if self.bias is None else found + self.bias.to(dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> "FourBitLinear":
        super()._apply(fn, recurse)
        if self._scales is not None:
            self._scales.to(self.packed.device)
        return self


def hold_in_four_bits(model: PeftModel, device: torch.device | str = "cpu") -> None:
    """Put a `FourBitLinear` on `device` in place of every linear layer at rest in the decoder's layers, under an adapter or not.
    Matrices that are still in their files (see `mmpt.model.hollow`) are read one by one.

    Raises `ConfigError` where the adapters look at the matrices that they adapt, where there are none, or bitsandbytes is not
    installed."""
    if model.peft_config["default"].peft_type not in TUNERS:
        raise ConfigError(f"adapter.base: nf4 goes with {', '.join(TUNERS).lower()}: others look at the matrices that they adapt")
    decoder = cast(PreTrainedModel, model.get_base_model())
    # "default" is peft's name of the one adapter, inside each of its parts.
    rest = [
        (name, one) for name, one in plain_layers(decoder) if "default" not in name.split(".") and not one.weight.requires_grad
    ]
    if not rest:
        raise ConfigError("adapter.base: nf4 needs linear layers at rest, this decoder has none in its layers")
    for name, plain in rest:
        decoder.set_submodule(name, FourBitLinear(plain, device))
