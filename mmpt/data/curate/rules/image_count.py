"""How many pictures a document has."""

from mmpt.data.curate.rules import DocumentRule, Verdict
from mmpt.document import Document, Image


class ImageCount(DocumentRule):
    """Pictures of a document, as OBELICS drops those without and with more than 30: Laurençon et al. 2023 (arXiv:2306.16527)."""

    min: int = 0
    """Pictures at least."""
    max: int | None = None
    """Pictures at most; None: any number."""

    def judge(self, document: Document) -> Verdict:
        count = sum(isinstance(part, Image) for part in document.parts)
        fits = self.min <= count and (self.max is None or count <= self.max)
        return Verdict(None if fits else f"{count} pictures")
