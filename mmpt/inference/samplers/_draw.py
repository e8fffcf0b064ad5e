"""A draw from weights by one random number, and what comes before it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def at_temperature(logits: "Tensor", temperature: float) -> "Tensor":
    """`logits` ÷ `temperature`."""
    # By a tensor: by a number, a GPU multiplies with its reciprocal, and the same seed gives other tokens than on a CPU.
    return logits / logits.new_tensor(temperature)


def draw(weights: "Tensor", numbers: "Tensor") -> "Tensor":
    """The place int64 [rows] in each row of `weights` [rows, V] where its number, in 0 … 1 of the row's sum, falls; never one of
    weight 0."""
    import torch  # samplers are settings too, and a wrong file is answered before torch is there

    # float64: in float32 the sum over a vocabulary of 150,000 ids loses those whose weight is below 1e-7 of it.
    sums = weights.double().cumsum(dim=-1)
    aim = numbers.to(weights.device).unsqueeze(1) * sums[:, -1:]
    place = torch.searchsorted(sums, aim, right=True).squeeze(1)
    # Rounding may aim at the very end: the last place with a weight.
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1)
    return place.minimum(last)
