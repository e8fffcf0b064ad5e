"""Which picture a text goes with."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.objectives import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mmpt.model.config import FeatureInputConfig
    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class Contrastive(Objective):
    """A contrastive loss between the pictures and the text of each document, beside generation: the other documents of the pack
    with pictures are the negatives, in both directions (COSMO, Wang et al. 2024, arXiv:2401.00849; the loss of CLIP, Radford et
    al. 2021, arXiv:2103.00020). Pictures are pooled from the rows of their connector and text from the states before the first
    layer that sees pictures, each by a learned query; so pictures enter by `cross`, above `layer`."""

    carries: ClassVar[tuple[str, ...]] = ("COSMO (contrastive streamlined multimodal, interleaved)",)
    whole_packs: ClassVar[bool] = True

    layer: int = pydantic.Field(ge=1)
    """Decoder layers that read text alone, whose last states are pooled: not above the first of `enters.decoder`."""
    width: int = pydantic.Field(default=512, ge=1)
    """Of the space in which the two are compared."""
    temperature: float = pydantic.Field(default=0.2, gt=0)
    """By which cosines are divided."""

    def problem(self, features: "Mapping[str, FeatureInputConfig]") -> str | None:
        from mmpt.model.entries.cross import Cross

        enters = features["image"].enters if "image" in features else None
        if not isinstance(enters, Cross) or enters.whole_as_rows:
            return "contrastive: features.image.enters: expected cross, without whole_as_rows"
        first = min(enters.decoder)
        return f"contrastive: layer is {self.layer}, but layer {first} sees pictures already" if self.layer > first else None

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._contrastive import BuiltContrastive

        return BuiltContrastive(self, model, vocabulary)
