"""Scorers: how much a document is wanted, as one number; more = keep.

scorer: {kind: dsir, target: shards/target}

`mmpt.data.curate.scoring` writes the numbers beside the set, the step `select` keeps documents by them.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from mmpt.data.curate.portions import ShardSets
from mmpt.document import Document, Speech, Text
from mmpt.methods import Method

Fitted = Mapping[str, np.ndarray]
"""What a scorer has learned, as arrays by name."""


class DocumentSet:
    """The documents of a set, as often as they are asked for; damaged ones are left out. `len` counts these, too."""

    def __init__(self, folder: str) -> None:
        self._sets = ShardSets(folders=(folder,))

    @cached_property
    def _units(self) -> list:
        return self._sets.units()

    def __len__(self) -> int:
        return sum(unit.what.shard.documents for unit in self._units)

    def __iter__(self) -> Iterator[Document]:
        for unit in self._units:
            yield from (one for one in self._sets.documents(unit) if isinstance(one, Document))

    def sample(self, most: int) -> Iterator[Document]:
        """At most `most` documents, evenly from the whole set; always the same."""
        step = -(-len(self) // most)
        return (one for number, one in enumerate(self) if number % step == 0)


class Scorer(Method):
    """How much a document is wanted. Its score may depend on nothing but the settings, what `fit` found and the document, so that
    any process may score any shard; which documents are in a batch with it does not matter but for rounding."""

    key: ClassVar[str] = "scorer"
    holds_model: ClassVar[bool] = False
    """Whether it holds a network, which has all cores or a GPU to itself: then one process scores."""

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        """What is learned once, before the documents of `pool` are scored; nothing by default."""
        return {}

    def reads(self) -> tuple[str, ...]:
        """Folders of sets and models, or names of models, on whose content the scores depend."""
        return ()

    @abstractmethod
    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        """float32 [documents]; NaN: there is nothing in it to be scored. Raises `DataError` where one cannot be examined."""


class TargetScorer(Scorer):
    """A scorer that compares with documents of the kind that is wanted."""

    target: str
    """A set of document shards like which the kept ones should be: path or URL."""

    def reads(self) -> tuple[str, ...]:
        return (self.target,)


def text_of(document: Document) -> str:
    """All text and all transcripts of a document, in order, a line break between parts; a transcript that stands in a text part,
    as corpora of speech have it, comes once."""
    written = {part.text.strip() for part in document.parts if isinstance(part, Text)}
    said = (part for part in document.parts if isinstance(part, Text | Speech) and part.text.strip())
    return "\n".join(part.text for part in said if isinstance(part, Text) or part.text.strip() not in written)
