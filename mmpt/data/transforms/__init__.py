"""What is made of a text's tokens before it is learned: another order, or a task of filling in."""

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import pydantic

from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import ConfigError
from mmpt.methods import Method
from mmpt.vocabulary import Vocabulary


class Tokens(NamedTuple):
    """`ids` int64 and the loss `weights` float32 of each [tokens]."""

    ids: np.ndarray
    weights: np.ndarray


class TokenTransform(Method):
    """Every choice is drawn from `seed`, the number of the copy and the document's id, so that any process draws the same."""

    key: ClassVar[str] = "transform"

    seed: int = 0
    """Of all that is drawn."""
    copies: int = pydantic.Field(default=1, ge=1)
    """So many sequences of each text, each drawn anew: as many epochs without the same sequence twice."""
    length: int | None = pydantic.Field(default=None, ge=8)
    """A longer text is cut into pieces of so many tokens, each a sequence of its own; null: it stays whole."""

    @abstractmethod
    def marks(self) -> tuple[str, ...]:
        """The tokens of the text tokenizer that it needs."""

    @abstractmethod
    def apply(self, text: Tokens, marks: Mapping[str, int], draw: random.Random, scores: Mapping[str, object]) -> Tokens:
        """What is made of a piece of text, whose document has `scores`. Raises `DataError` where it lacks one that is needed."""

    def documents(
        self,
        document: TokenDocument,
        vocabulary: Vocabulary,
        marks: Mapping[str, int],
        scores: Mapping[str, object] = MappingProxyType({}),
    ) -> Iterator[TokenDocument]:
        """What is made of `document` where it is `<|begin|>`, text alone, and `<|end|>`; others come back as they are. `marks`:
        the ids of those that it needs; `scores`: what rules have left in the document."""
        ids = np.asarray(document.ids, dtype=np.int64)
        text = ids[1:-1]
        frame = (vocabulary.special("<|begin|>"), vocabulary.special("<|end|>"))
        if not len(text) or (int(ids[0]), int(ids[-1])) != frame or int(text.max()) >= vocabulary.text_size:
            yield document
            return
        weights = np.ones(len(ids), np.float32) if document.weights is None else np.asarray(document.weights, np.float32)
        size = self.length or len(text)
        for copy in range(self.copies):
            for start in range(0, len(text), size):
                draw = random.Random(f"{self.seed} {copy} {start} {document.id}")
                own = slice(start, start + size)
                made = self.apply(Tokens(text[own], weights[1:-1][own]), marks, draw, scores)
                name = "/".join([document.id, *([f"{start}"] if size < len(text) else []), *([f"{copy}"] if copy else [])])
                whole = np.concatenate([frame[:1], made.ids, frame[1:]])
                yield replace(document, id=name, ids=whole, weights=np.concatenate([weights[:1], made.weights, weights[-1:]]))


def joined(*pieces: Tokens) -> Tokens:
    """One after the other."""
    return Tokens(np.concatenate([one.ids for one in pieces]), np.concatenate([one.weights for one in pieces]))


def mark(token: int, weight: float) -> Tokens:
    """A single token."""
    return Tokens(np.array([token], np.int64), np.array([weight], np.float32))


def mark_ids(names: tuple[str, ...], vocabulary: Mapping[str, int]) -> dict[str, int]:
    """The ids of the tokens `names` in a text tokenizer. Raises `ConfigError` naming all that it does not have."""
    if missing := [name for name in names if name not in vocabulary]:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ConfigError(
            f"transform: the text tokenizer has no token {shown}; name others of its own, or train one that has them "
            "(tokenizers/train.py, kind: text, special: […])"
        )
    return {name: vocabulary[name] for name in names}
