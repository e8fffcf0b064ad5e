"""Vision towers: pixels to the features that a Q-Former or a connector looks at.

tower: {patch: 8, width: 128, depth: 0, heads: 4}
tower: {kind: open_clip, model: EVA01-g-14, pretrained: laion400m_s11b_b41k}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

import pydantic

from mmpt.methods import Method

if TYPE_CHECKING:
    from mmpt.tokenizers.image.tower import TowerModule


class Tower(Method):
    """What makes features of pixels. `build` gives the module that does it."""

    key: ClassVar[str] = "tower"
    default_kind: ClassVar[str] = "vit"
    frozen: ClassVar[bool] = False
    """Whether it is a published model that never learns."""

    @abstractmethod
    def build(self, side: int, pretrained: bool = True) -> "TowerModule":
        """The module for images of `side` × `side` pixels; `pretrained` false leaves published weights to be loaded by the
        caller. Raises `ConfigError` where it cannot be loaded or does not take that side."""

    def problems(self, side: int) -> list[str]:
        """What does not fit images of that side, as far as it can be told without building it."""
        return []


def _published(tower: Tower) -> Tower:
    if not tower.frozen:
        raise ValueError(f"kind: {tower.kind} has no published weights, expected a tower that has")
    return tower


PublishedTower = Annotated[Tower, pydantic.AfterValidator(_published)]
"""One that has published weights."""
