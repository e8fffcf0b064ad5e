"""Under which license a document may be used."""

from typing import ClassVar

from mmpt.data.curate.rules import DocumentRule, Verdict
from mmpt.document import Document


class License(DocumentRule):
    """The document's `license` must be one of some, as in the Common Corpus (Langlais et al. 2025, arXiv:2506.01732)."""

    carries: ClassVar[tuple[str, ...]] = ("PASS (images without humans)",)

    keep: tuple[str, ...]
    """What `meta.license` of a document that stays may be."""

    def judge(self, document: Document) -> Verdict:
        found = str(document.meta.get("license", ""))
        return Verdict(None if found in self.keep else f"license {found!r}")
