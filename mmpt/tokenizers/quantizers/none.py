"""No codes at all."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.quantizers import Quantizer

if TYPE_CHECKING:
    from mmpt.tokenizers.quantizers._none import NoQuantizer


class Unquantized(Quantizer):
    """States pass unchanged and there are no codes (own): the same network against which the cost of codes is measured."""

    dim: int = pydantic.Field(ge=1)  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many values a state has."""

    @property
    def codes(self) -> int:
        return 0

    def build(self) -> "NoQuantizer":
        from mmpt.tokenizers.quantizers._none import NoQuantizer

        return NoQuantizer(self)
