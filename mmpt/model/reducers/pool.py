from typing import TYPE_CHECKING, ClassVar, Literal

from mmpt.model.reducers import Reducer

if TYPE_CHECKING:
    from torch import Tensor


class Pool(Reducer):
    """Means over equal pieces of the grid of features (adaptive average pooling, as Open-Qwen2VL pools 729 to 144, Wang et al.
    2025, arXiv:2504.00595)."""

    carries: ClassVar[tuple[str, ...]] = ("Open-Qwen2VL",)

    over: Literal["grid", "line"] = "grid"
    """grid: the squares of a picture's square grid, row by row; line: stretches of a row of features, for sound."""

    @property
    def in_order(self) -> bool:
        return self.over == "line"

    def reduce(self, features: "Tensor") -> "Tensor":
        from mmpt.model.reducers._pool import pooled

        return pooled(features, self.rows, self.over == "grid")
