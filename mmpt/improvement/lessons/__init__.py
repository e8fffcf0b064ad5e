"""What is learned of a round's answers."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import pydantic

from mmpt.data.shards.tokens import TokenDocument
from mmpt.methods import Method


class Scored(NamedTuple):
    """An answer behind its prompt, whose tokens alone have a weight, and its `reward`."""

    document: TokenDocument
    reward: float


class Lesson(Method):
    """The sequences to be learned, made of the answers to each prompt."""

    key: ClassVar[str] = "lesson"
    objectives: ClassVar[tuple[str, ...]] = ("next_token",)
    """By what they are learned, where the training says nothing else."""

    @abstractmethod
    def documents(self, group: Sequence[Scored]) -> Iterator[TokenDocument]:
        """Of the answers to one prompt; none where there is nothing to learn."""


class Chosen(Lesson):
    """Of those that learn good answers alone."""

    threshold: float = pydantic.Field(default=1.0)
    """The least reward of an answer that is learned."""
