"""A smaller decoder from a larger one."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.errors import ConfigError
from mmpt.model.changes import Change

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Prune(Change):
    """The layers, hidden numbers and neurons that matter least on texts of the data are cut out, by the size of activations, and
    of layers by how little they turn the states (Minitron, Muralidharan et al. 2024, arXiv:2407.14679); then trained on, at best
    against the larger one. What is kept is a slice of it."""

    reads_text: ClassVar[bool] = True

    layers: int | None = pydantic.Field(default=None, ge=1)
    """That are kept; null: all."""
    hidden: int | None = pydantic.Field(default=None, ge=1)
    """Numbers of a hidden state that are kept; null: all."""
    intermediate: int | None = pydantic.Field(default=None, ge=1)
    """Neurons of each feed-forward network that are kept; null: all."""
    samples: int = pydantic.Field(default=64, ge=1)
    """Documents of the data that are read."""

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        from mmpt.model.changes._shapes import known

        if not known(config):
            raise self.refused(config, "is not known here")
        for name, wanted, there in (
            ("layers", self.layers, config.num_hidden_layers),
            ("hidden", self.hidden, config.hidden_size),
            ("intermediate", self.intermediate, config.intermediate_size),
        ):
            if wanted is not None and wanted > there:
                raise self.refused(config, f"has {name} {there}, expected as many or fewer")
        if self.layers and len(set(getattr(config, "layer_types", None) or [""])) > 1:
            raise self.refused(config, "has layers of several types, of which none is cut out")
        config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        config.num_hidden_layers = self.layers or config.num_hidden_layers
        config.hidden_size = self.hidden or config.hidden_size
        config.intermediate_size = self.intermediate or config.intermediate_size
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        return config

    def weights(
        self,
        model: "PreTrainedModel",
        settings: "PreTrainedConfig",
        generator: "torch.Generator",
        sequences: Iterable[Sequence[int]],
    ) -> "dict[str, Tensor]":
        """Raises `ConfigError` where the sequences hold none of the decoder's ids."""
        from mmpt.model.changes._prune import importance, sliced

        found = importance(model, sequences, self.samples)
        if found is None:
            raise ConfigError("backbone.change: prune: no document of the data has text")
        return sliced(model, found, settings)
