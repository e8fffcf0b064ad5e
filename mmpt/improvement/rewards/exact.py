"""The same text."""

from collections.abc import Sequence

from mmpt.document import Part
from mmpt.improvement.rewards import Reward, text_of


class Exact(Reward):
    """1 where the text is the expected one but for space around it, else 0 (own: what a verifiable answer is at its simplest)."""

    behind: str = ""
    """Of both only what stands behind the last of these is compared, such as `####` in GSM8K; empty: all."""

    def of(self, asked: Sequence[Part], answered: Sequence[Part], expected: Sequence[Part]) -> float:
        return float(self._compared(answered) == self._compared(expected))

    def _compared(self, parts: Sequence[Part]) -> str:
        text = text_of(parts)
        return text.rpartition(self.behind)[2].strip() if self.behind else text
