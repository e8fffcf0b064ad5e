"""The image side of a published open_clip model."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.tokenizers.image.towers import Tower

if TYPE_CHECKING:
    from mmpt.tokenizers.image.towers._open_clip import OpenClipTower


class OpenClip(Tower):
    """The frozen image side of an open_clip model by its name (Ilharco et al. 2021, github.com/mlfoundations/open_clip). Where
    the image's side is not the model's, its positions are resampled."""

    frozen: ClassVar[bool] = True

    model: str
    """Its name in open_clip, such as `EVA01-g-14`."""
    pretrained: str | None = None
    """A tag of that model, or a file of its weights, read where training starts; null: random weights, which never learn."""

    @pydantic.model_validator(mode="after")
    def _weights_are_named(self) -> "OpenClip":
        if "pretrained" not in self.model_fields_set:
            raise ValueError("pretrained: missing; a tag of the model or a file of weights, since a frozen tower never learns")
        return self

    def build(self, side: int, pretrained: bool = True) -> "OpenClipTower":
        from mmpt.tokenizers.image.towers._open_clip import OpenClipTower

        return OpenClipTower(side, self, pretrained)
