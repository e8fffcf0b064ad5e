"""How large a picture is, in pixels and bytes."""

from typing import ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Image


class ImageSize(PartRule):
    """Size of a picture, as mmc4 drops those below 150 pixels: Zhu et al. 2023, "Multimodal C4" (arXiv:2304.06939), section 3."""

    judges: ClassVar = Image
    min_side: int = 0
    """Pixels of the shorter side at least."""
    max_side: int | None = None
    """Pixels of the longer side at most; None: any."""
    min_bytes: int = 0
    """Bytes of the file at least."""

    def judge(self, part: Image, document: Document, place: int) -> Verdict:
        short, long = sorted((part.width, part.height))
        if short < self.min_side or (self.max_side is not None and long > self.max_side):
            return Verdict(f"{part.width} x {part.height} pixels")
        return Verdict(f"{len(part.data)} bytes" if len(part.data) < self.min_bytes else None)
