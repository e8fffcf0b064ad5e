"""The stages in which an image tokenizer is trained, by their names in a specification."""

from collections.abc import Callable
from typing import Any

from mmpt.tokenizers.image.stages import AlignStage, DrawStage, JointStage, QuantizeStage, Stage

KINDS: dict[str, Callable[[Any, Any], Stage]] = {
    "joint": JointStage,
    "align": AlignStage,
    "quantize": QuantizeStage,
    "draw": DrawStage,
    "harden": DrawStage,
}
