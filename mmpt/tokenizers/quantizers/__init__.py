"""Quantisers: a vector in, a code and its vector out.

quantizer: {kind: ema, codes: 128, dim: 16}
quantizer: {kind: fsq, levels: [8, 8, 8]}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from mmpt.tokenizers.quantized import QuantizerModule


class Quantizer(Method):
    """How vectors become codes. `build` gives the module that does it."""

    key: ClassVar[str] = "quantizer"

    if TYPE_CHECKING:  # fields of some methods, computed from their fields by others

        @property
        def codes(self) -> int:
            """Size of the id space; 0 where there are no codes."""
            ...

        @property
        def dim(self) -> int:
            """Values of a vector."""
            ...

    @property
    def depth(self) -> int:
        """Codes of one vector."""
        return 1

    @property
    def settled(self) -> bool:
        """Whether its entries stay as they start."""
        return False

    @abstractmethod
    def build(self) -> "QuantizerModule":
        """The module, its codebook not yet started."""
