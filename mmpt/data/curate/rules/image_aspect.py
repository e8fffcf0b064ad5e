"""How wide a picture is for its height."""

from typing import ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Image


class ImageAspect(PartRule):
    """Width / height of a picture, 0.5 to 2 in mmc4: Zhu et al. 2023, "Multimodal C4" (arXiv:2304.06939), section 3."""

    judges: ClassVar = Image
    min: float = 0.5
    """Width / height at least."""
    max: float = 2.0
    """Width / height at most."""

    def judge(self, part: Image, document: Document, place: int) -> Verdict:
        aspect = part.width / part.height
        return Verdict(None if self.min <= aspect <= self.max else f"aspect {aspect:.2f}")
