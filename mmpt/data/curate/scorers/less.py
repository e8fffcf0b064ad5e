"""How much learning a text would help with what is wanted."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pydantic

from mmpt.config import Expression
from mmpt.data.curate.scorers import DocumentSet, Fitted, TargetScorer, text_of
from mmpt.document import Document
from mmpt.errors import ConfigError


class Less(TargetScorer):
    """Similarity of a text's gradient to those of the target, over checkpoints of a causal LM: Xia et al. 2024, "LESS"
    (arXiv:2402.04333), with gradients as SGD takes them on both sides (the paper's Adam moments are left out), in a
    random projection."""

    carries: ClassVar[tuple[str, ...]] = ("LESS",)

    holds_model: ClassVar = True
    models: tuple[str, ...] = pydantic.Field(min_length=1)
    """Folders or Hugging Face names of the checkpoints, of one tokenizer."""
    rates: tuple[pydantic.PositiveFloat, ...] = ()
    """The learning rate at each checkpoint, which weighs it; empty: all alike."""
    tokenizer: str | None = None
    """Folder or name of the tokenizer; null: it lies with the first checkpoint."""
    parameters: Expression = r"\.(q|k|v|o)_proj\."
    """Regular expression, searched in the names, of the weights whose gradients count."""
    dim: int = pydantic.Field(default=4096, ge=1)
    """Numbers that a gradient is projected to."""
    examples: pydantic.PositiveInt = 64
    """Documents of the target, evenly from the whole, whose gradients are compared with."""
    of: Literal["mean", "best"] = "mean"
    """Whether the similarity to the mean of the target's gradients counts, or the one to the most similar example."""
    max_tokens: int = pydantic.Field(default=512, ge=2)
    """Tokens of a text that are looked at."""

    @pydantic.model_validator(mode="after")
    def _one_rate_each(self) -> "Less":
        if self.rates and len(self.rates) != len(self.models):
            raise ValueError(f"rates: expected one for each of the {len(self.models)} models, found {len(self.rates)}")
        return self

    def reads(self) -> tuple[str, ...]:
        return (self.target, *self.models, *([self.tokenizer] if self.tokenizer else []))

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        gradients = self._gradients([text_of(one) for one in DocumentSet(self.target).sample(self.examples)])
        gradients = gradients[:, ~np.isnan(gradients).any(axis=(0, 2))]
        if not gradients.shape[1]:
            raise ConfigError(f"{self.kind}: no text of two tokens in the target {self.target}")
        return {"gradients": gradients.mean(axis=1, keepdims=True) if self.of == "mean" else gradients}

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        own = self._gradients([text_of(one) for one in documents])
        rates = np.array(self.rates or [1.0] * len(self.models)) / (sum(self.rates) or len(self.models))
        similar = np.einsum("k,knd,kmd->nm", rates, _unit(own), _unit(fitted["gradients"]))
        return similar.max(axis=1).astype(np.float32)

    def _gradients(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [models, texts, dim]; NaN of fewer than two tokens."""
        from mmpt.data.curate.scorers._gradients import projected_gradients

        tokens = self.tokenizer or self.models[0]
        return np.stack(
            [
                projected_gradients(one, tokens, texts, self.max_tokens, self.parameters, self.dim, self.kind)
                for one in self.models
            ]
        )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
