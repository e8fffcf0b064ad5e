"""What a language model learns of its packs; each objective adds terms to the loss of the same forward pass."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pydantic

from mmpt.methods import Method

if TYPE_CHECKING:  # settings are read before torch is loaded
    import torch
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from mmpt.data.loading.packing import PackedBatch
    from mmpt.model.config import FeatureInputConfig
    from mmpt.model.forward import Decoded
    from mmpt.tokenizers.terms import Term
    from mmpt.vocabulary import Vocabulary

    Model = PreTrainedModel | PeftModel


class Built(Protocol):
    """An objective of one run. Nothing here may ask the device for a value: a step has no host wait before its end."""

    asks: dict[str, Any]
    """Options of the decoder's forward pass that it needs, such as `output_router_logits`."""

    # `head`: a module of an objective that learns beside the model, where it has one.

    def prepare(self, batch: "PackedBatch") -> "tuple[PackedBatch, dict[str, Tensor]]":
        """(a pack with what the objective has to know of it beforehand, the counts of its learned terms: float64 scalars); on the
        host, before the forward pass, since what a step's terms are divided by must be known as its first pack is learned."""
        ...

    def terms(self, model: "Model", batch: "PackedBatch", decoded: "Decoded", progress: float) -> "dict[str, Term]":
        """The terms of one pack; `progress` runs from 0 to 1 over the run, and is the same for all packs of a step."""
        ...


class Objective(Method):
    """Its `weight` in the loss is what all share."""

    key: ClassVar[str] = "objectives"
    whole_packs: ClassVar[bool] = False
    """Whether it must see packs whole: with `loader.sequence_parallel` a rank has a stretch of each."""
    compares: ClassVar[bool] = False
    """Whether it compares with the model as the run began, whose losses are then in `Decoded.before`; a copy is kept."""

    weight: float = pydantic.Field(default=1.0, gt=0)
    """Factor on the objective in the loss."""

    def problem(self, features: "Mapping[str, FeatureInputConfig]") -> str | None:
        """What does not go with the `features` of a run, by the kind of media."""
        return None

    @abstractmethod
    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built | None":
        """The objective of a run on `model`; None where this model has nothing to learn by it. Raises `ConfigError` where the
        model cannot."""
