"""How long a text is."""

from typing import ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Text


class TextLength(PartRule):
    """Characters of a text part, as C4 and its followers count them: Raffel et al. 2020 (arXiv:1910.10683), section 2.2."""

    judges: ClassVar = Text
    min: int = 1
    """Characters at least."""
    max: int | None = None
    """Characters at most; None: any."""

    def judge(self, part: Text, document: Document, place: int) -> Verdict:
        length = len(part.text)
        fits = self.min <= length and (self.max is None or length <= self.max)
        return Verdict(None if fits else f"{length} characters")
