"""What an answer is worth."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from mmpt.document import Part, Text
from mmpt.methods import Method


class Reward(Method):
    """A number for an answer: more is better."""

    key: ClassVar[str] = "reward"

    @abstractmethod
    def of(self, asked: Sequence[Part], answered: Sequence[Part], expected: Sequence[Part]) -> float:
        """Of what was `answered` to the parts `asked`, where the data have `expected` as the answer."""


def text_of(parts: Sequence[Part]) -> str:
    """What is written in them."""
    return "".join(part.text for part in parts if isinstance(part, Text)).strip()
