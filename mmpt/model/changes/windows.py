"""Layers that see the last tokens alone."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.errors import ConfigError
from mmpt.model.changes import Change

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Windows(Change):
    """Sliding windows in most layers, whole contexts in a few: by default the middle third (LongGen, Ge et al. 2024,
    arXiv:2410.01485, without tokens that all see)."""

    window: int = pydantic.Field(ge=1)
    """Tokens that such a layer sees, the token itself among them."""
    full: list[int] | None = None
    """Numbers of the layers, from 0, that see all; null: the middle third."""

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        layers = config.num_hidden_layers
        if not hasattr(config, "layer_types") or not hasattr(config, "sliding_window"):
            raise self.refused(config, "has no layer_types and sliding_window")
        full = set(range(layers // 3, layers - layers // 3) if self.full is None else self.full)
        if not full <= set(range(layers)):
            raise ConfigError(f"backbone.change: windows: full is {self.full}, expected numbers from 0 to {layers - 1}")
        config.sliding_window = self.window
        if hasattr(config, "use_sliding_window"):
            config.use_sliding_window = True
        config.layer_types = ["full_attention" if n in full else "sliding_attention" for n in range(layers)]
        return config
