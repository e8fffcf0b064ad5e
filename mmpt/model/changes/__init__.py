"""What is changed of a pretrained decoder as it is loaded: its configuration, and its weights to fit.

backbone: {path: Qwen/Qwen3-0.6B, change: [{kind: positions, base: 5000000}, {kind: upcycle, experts: 8}]}
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from mmpt.errors import ConfigError
from mmpt.methods import Method

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Change(Method):
    """Of a decoder of one configuration another of a second one. `reads_text`: whether it looks at sequences of ids."""

    key: ClassVar[str] = "change"
    reads_text: ClassVar[bool] = False

    @abstractmethod
    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        """The changed configuration; `config` is the change's own to alter. Raises `ConfigError` where it does not suit."""

    def weights(
        self,
        model: "PreTrainedModel",
        settings: "PreTrainedConfig",
        generator: "torch.Generator",
        sequences: Iterable[Sequence[int]],
    ) -> "dict[str, Tensor]":
        """The weights of `model` for the changed `settings`, by name."""
        return dict(model.state_dict())

    def refused(self, config: "PreTrainedConfig", why: str) -> ConfigError:
        """What is said where it does not suit a decoder."""
        return ConfigError(f"backbone.change: {self.kind}: {config.model_type} {why}")
