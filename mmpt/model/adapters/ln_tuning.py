from typing import Any, ClassVar

from mmpt.model.adapters import Adapter


class LnTuning(Adapter):
    """The weights of norms learn, and nothing else (Zhao et al. 2023, arXiv:2312.11420)."""

    settings_of_peft: ClassVar[str] = "LNTuningConfig"

    targets: str | list[str] = ["input_layernorm", "post_attention_layernorm"]
    """Ends of the names of the norms; they are not the same in every family of models."""

    def options(self, seed: int) -> dict[str, Any]:
        return {}
