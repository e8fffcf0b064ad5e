"""Good answers alone."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pydantic

from mmpt.data.shards.tokens import TokenDocument
from mmpt.improvement.lessons import Chosen, Scored


class Best(Chosen):
    """The best answers to each prompt, each once, as if they were data (rejection sampling as in RAFT, Dong et al. 2023,
    arXiv:2304.06767)."""

    carries: ClassVar[tuple[str, ...]] = ("OpenVLThinker",)

    most: int = pydantic.Field(default=1, ge=1)
    """Answers to a prompt, at most."""

    def documents(self, group: Sequence[Scored]) -> Iterator[TokenDocument]:
        good = [one for one in group if one.reward >= self.threshold]
        different = {one.document.ids.tobytes(): one for one in reversed(good)}  # of equal ones the first stays
        ordered = sorted(reversed(different.values()), key=lambda one: -one.reward)
        yield from (one.document for one in ordered[: self.most])
