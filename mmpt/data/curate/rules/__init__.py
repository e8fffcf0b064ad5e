"""Rules of a filter: each says why a part or a document is to go, or nothing, and gives the scores that it computed.

rules: [{kind: image_size, min_side: 150}, {kind: language, keep: [en]}]
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mmpt.document import Document, Part
from mmpt.methods import Method


@dataclass(frozen=True)
class Verdict:
    """Why something goes (`reason`, None: it stays), and `scores` by name, which stay with its document."""

    reason: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


class Rule(Method):
    """What a document, or a part of one, is held against. A method is a `PartRule` or a `DocumentRule`."""

    key: ClassVar[str] = "rules"


class PartRule(Rule):
    """A rule over single parts of the type that it `judges`; parts of other types stay."""

    judges: ClassVar[type[Part]]
    drop: Literal["part", "document"] = "part"
    """What goes where a part fails: the part alone, or its whole document."""

    @abstractmethod
    def judge(self, part: Any, document: Document, place: int) -> Verdict:
        """What to do with `part`, number `place` of the document as it is so far.

        Raises `DataError` where it cannot be examined.
        """


class DocumentRule(Rule):
    """A rule over whole documents."""

    @abstractmethod
    def judge(self, document: Document) -> Verdict:
        """What to do with a document. Raises `DataError` where it cannot be examined."""
