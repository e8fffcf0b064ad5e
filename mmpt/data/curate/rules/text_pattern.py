"""What must not be in a text."""

import re
from typing import ClassVar

from mmpt.config import Expression
from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Text


class TextPattern(PartRule):
    """A text part in which a regular expression is found goes, as pages with "lorem ipsum" or curly brackets do in C4: Raffel et
    al. 2020 (arXiv:1910.10683), section 2.2."""

    judges: ClassVar = Text
    pattern: Expression
    """The regular expression."""

    def judge(self, part: Text, document: Document, place: int) -> Verdict:
        found = re.search(self.pattern, part.text)
        return Verdict(f"{found[0][:80]!r} is in it" if found else None)
