"""The same number."""

import re
from collections.abc import Sequence

from mmpt.document import Part
from mmpt.improvement.rewards import Reward, text_of

NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


class Number(Reward):
    """1 where the last number in the text is the last of the expected one, else 0 (as answers to GSM8K are checked, Cobbe et al.
    2021, arXiv:2110.14168)."""

    def of(self, asked: Sequence[Part], answered: Sequence[Part], expected: Sequence[Part]) -> float:
        said, wanted = (NUMBER.findall(text_of(parts)) for parts in (answered, expected))
        return float(bool(said and wanted) and _value(said[-1]) == _value(wanted[-1]))


def _value(text: str) -> float:
    return float(text.replace(",", ""))
