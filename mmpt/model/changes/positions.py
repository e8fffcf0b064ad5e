"""Positions beyond those that were trained."""

from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from mmpt.model.changes import Change

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Positions(Change):
    """Another base of the rotary embedding (Xiong et al. 2023, arXiv:2309.16039), or a scaling of its positions such as YaRN
    (Peng et al. 2023, arXiv:2309.00071), for longer contexts; then trained on in long packs."""

    carries: ClassVar[tuple[str, ...]] = ("Effective Long-Context Scaling",)

    base: float | None = pydantic.Field(default=None, gt=0)
    """Of the angles (`rope_theta`): 500000 in the paper, from 10000."""
    scaling: dict[str, Any] = {}
    """As transformers has it: `{rope_type: yarn, factor: 4.0, original_max_position_embeddings: 4096}`, `{rope_type: linear,
    factor: 2.0}`."""
    max_positions: int | None = pydantic.Field(default=None, ge=1)
    """Tokens of a document at most, prompt and answer (`max_position_embeddings`)."""

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        found = getattr(config, "rope_parameters", None)
        if not isinstance(found, dict) or "rope_theta" not in found:
            raise self.refused(config, "has no rope_parameters of one kind")
        base = {} if self.base is None else {"rope_theta": self.base}
        kept = {"rope_theta": found["rope_theta"], "rope_type": "default"} if self.scaling else found
        config.rope_parameters = {**kept, **self.scaling, **base}
        if self.max_positions is not None:
            config.max_position_embeddings = self.max_positions
        return config
