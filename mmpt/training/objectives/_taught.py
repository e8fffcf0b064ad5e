"""What objectives with a teacher share: their settings, and the teacher, which stands beside the model that is trained."""

from typing import ClassVar, Literal

import pydantic

from mmpt.training.objectives import Objective
from mmpt.training.objectives.next_token import ModalityWeights


class Taught(Objective):
    """Of those that learn from another model."""

    whole_packs: ClassVar[bool] = True

    teacher: str
    """A checkpoint, a run folder (its newest), or a model of transformers by folder or Hugging Face name, with the text tokenizer
    of the data. It gets no gradient, and stands on each rank whole. One that knows text alone teaches where all before is
    text."""
    until: float = pydantic.Field(default=1.0, gt=0, le=1)
    """The share of the run after which it is left out, and the teacher's memory given back."""
    fade: Literal["none", "linear"] = "none"
    """linear: `weight` falls to 0 at `until`; none: it stays until then."""
    weights: ModalityWeights = ModalityWeights()
    """Factors by the modality of the next token, on top of the weights of the documents."""

    def factor(self, progress: float) -> float:
        """The weight at a share of the run; 0 from `until` on."""
        if progress >= self.until:
            return 0.0
        return self.weight * (1 - progress / self.until if self.fade == "linear" else 1.0)
