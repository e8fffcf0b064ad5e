"""What makes an update of a gradient, and what it keeps of each parameter between two updates."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import pydantic

from mmpt.methods import Method
from mmpt.training.parts import Part

if TYPE_CHECKING:  # settings are read before torch is loaded
    import torch
    from torch import nn

Shape = Sequence[int]


class Optimizer(Method):
    """The learning rate, on which the schedule is a factor, and what every optimizer shares."""

    key: ClassVar[str] = "optimizer"
    default_kind: ClassVar[str] = "adamw"
    whole_matrices: ClassVar[bool] = False
    """Whether an update needs a matrix as it is: ZeRO stages above 0 give the optimizer flat pieces of it."""

    eight_bits: ClassVar[frozenset[str]] = frozenset()
    """Names of what is kept as bytes, not as float32."""

    learning_rate: float = pydantic.Field(gt=0)
    """The full rate, which the schedule reaches behind its warm-up."""
    weight_decay: float = pydantic.Field(default=0.1, ge=0)
    """Share of a weight that is taken off in each update, times the learning rate (decoupled, Loshchilov and Hutter 2017,
    arXiv:1711.05101): of matrices only, not of norms, biases and embeddings."""
    gradient_clip: float = pydantic.Field(default=1.0, ge=0)
    """Largest norm of the gradient of all parameters together; a longer one is scaled down to it. 0: no clipping."""
    parts: dict[Part, Annotated[float, pydantic.Field(ge=0)]] = {}
    """Factors on the learning rate of parts of a language model (embeddings, new_rows, adapter, connectors, layers); 0:
    frozen."""
    layer_decay: float = pydantic.Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate of each layer of a language model against the one above it, and of its input table against the
    lowest: layer-wise decay (Clark et al. 2020, arXiv:2003.10555)."""
    frozen_layers: int = pydantic.Field(default=0, ge=0)
    """How many layers of a language model, from the lowest, do not learn (Telly, Shi et al. 2023, arXiv:2304.05216)."""

    @abstractmethod
    def build(self, groups: list[dict]) -> "torch.optim.Optimizer":
        """The optimizer over parameter groups. Each has, beside `params`, its `weight_decay`, the `factor` of its part and
        whether it is one of those `apart`."""

    def apart(self, model: "nn.Module") -> set[int]:
        """`id` of the parameters of `model` that are updated in another way than the rest, and so get groups of their own."""
        return set()

    def state(self, shape: Shape, apart: bool) -> dict[str, tuple[int, ...]]:
        """The tensors (name → shape; float32, but for those of `eight_bits`) that are kept of a parameter of `shape`, the number
        of updates aside: what a checkpoint holds of it."""
        return {"exp_avg": tuple(shape), "exp_avg_sq": tuple(shape)}


class WithMoments(Optimizer):
    """Of those that keep running means of the gradient."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the running means of the gradient and of its square, for each update."""

    @pydantic.field_validator("betas")
    @classmethod
    def _betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("expected two numbers of at least 0 and below 1")
        return betas
