"""A larger decoder from a smaller one."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from mmpt.model.changes import Change

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Grow(Change):
    """Wider, and the decoder computes what it did before: numbers of each hidden state and neurons are there several times, and
    what reads them has its share of each (bert2BERT, Chen et al. 2021, arXiv:2110.07143, its function-preserving start); deeper,
    with its layers stacked once more, or with copies that add nothing at first (LLaMA Pro, Wu et al. 2024, arXiv:2401.02415)."""

    carries: ClassVar[tuple[str, ...]] = ("bert2BERT", "AquilaMoE (EfficientScale)")

    layers: int | None = pydantic.Field(default=None, ge=1)
    """In all; null: as many as there are."""
    depth: Literal["stack", "identity"] = "stack"
    """stack: all layers once more on top of each other, which changes what it computes; identity: new layers, spread evenly, are
    copies of the one below whose last matrices are 0."""
    hidden: int | None = pydantic.Field(default=None, ge=1)
    """Width, a multiple of what it is; null: as it is. The head is no longer tied to the embedding."""
    intermediate: int | None = pydantic.Field(default=None, ge=1)
    """Neurons of each feed-forward network; null: as many as there are."""

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        for name, wanted, there in (
            ("layers", self.layers, config.num_hidden_layers),
            ("hidden", self.hidden, config.hidden_size),
            ("intermediate", self.intermediate, config.intermediate_size),
        ):
            if wanted is not None and (wanted < there or (name == "hidden" and wanted % there)):
                raise self.refused(
                    config, f"has {name} {there}, expected {'a multiple' if name == 'hidden' else 'as many or more'}"
                )
        config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[source] for source, _ in self._layers(config.num_hidden_layers)]
        if self.hidden not in (None, config.hidden_size):
            config.hidden_size, config.tie_word_embeddings = self.hidden, False
        config.num_hidden_layers = self.layers or config.num_hidden_layers
        config.intermediate_size = self.intermediate or config.intermediate_size
        return config

    def weights(
        self,
        model: "PreTrainedModel",
        settings: "PreTrainedConfig",
        generator: "torch.Generator",
        sequences: Iterable[Sequence[int]],
    ) -> "dict[str, Tensor]":
        from mmpt.model.changes._grow import deeper, wider

        found = wider(model, settings.hidden_size, settings.intermediate_size)
        return deeper(found, self._layers(model.config.num_hidden_layers))

    def _layers(self, there: int) -> list[tuple[int, bool]]:
        """(which of the layers there are, whether it adds nothing) for each layer."""
        wanted = self.layers or there
        if self.depth == "stack":
            return [(number % there, False) for number in range(wanted)]
        # As evenly as can be: copies behind layer n until n + 1 layers have their share of the new ones.
        found: list[tuple[int, bool]] = []
        for number in range(there):
            found.append((number, False))
            while len(found) < (number + 1) * wanted // there:
                found.append((number, True))
        return found
