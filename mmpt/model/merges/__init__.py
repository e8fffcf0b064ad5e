"""How what several models have learned since one base becomes one change of it; see `mmpt.model.soup`."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import pydantic
import yaml

from mmpt.config import Schema, parse_config
from mmpt.errors import ConfigError
from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


class Merge(Method):
    """One change of a weight from those of several models."""

    key: ClassVar[str] = "method"

    @abstractmethod
    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        """The merged change of a weight: `vectors` float64, what each model has added to it (its task vector), `weights` a factor
        for each, below 0 to take away. Random choices are torch's own."""


class Trimmed(Merge):
    """Of those that keep a part of each change."""

    density: float = pydantic.Field(default=0.2, gt=0, le=1)
    """Share of the numbers of each change, tensor by tensor, that is kept."""

    def elected(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        """The mean of those weighted numbers that have the sign of their sum, place by place."""
        import torch
        from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge

        # Weighted before the vote: what is taken away votes for its opposite.
        stacked = torch.stack([vector * weight for vector, weight in zip(vectors, weights, strict=True)])
        return disjoint_merge(stacked, calculate_majority_sign_mask(stacked))

    def kept(self, vectors: Sequence["Tensor"], drop: str) -> "list[Tensor]":
        """Each with the rest set to 0: `magnitude` drops the smallest numbers, `random` any, and scales up those that stay."""
        from peft.utils.merge_utils import prune

        if self.density == 1:
            return list(vectors)
        return [
            prune(vector, self.density, "random" if drop == "random" else "magnitude", drop == "random") for vector in vectors
        ]


class _Option(Schema):
    method: Merge


def chosen_merge(text: str) -> Merge:
    """The method that the value of `--method` names in YAML. Raises `ConfigError`."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ConfigError(f"--method: not valid YAML ({' '.join(str(problem).split())})") from None
    return parse_config({"method": value}, _Option, "--method").method
