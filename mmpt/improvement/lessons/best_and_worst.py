"""The best answer beside the worst."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from mmpt.data.shards.tokens import TokenDocument, paired
from mmpt.improvement.lessons import Chosen, Scored


class BestAndWorst(Chosen):
    """The best answer to each prompt as the preferred and the worst as the rejected one of a pair (online DPO, Guo et al. 2024,
    arXiv:2402.04792, with a reward in place of a judge)."""

    objectives: ClassVar[tuple[str, ...]] = ("dpo",)

    def documents(self, group: Sequence[Scored]) -> Iterator[TokenDocument]:
        best, worst = max(group, key=lambda one: one.reward), min(group, key=lambda one: one.reward)
        if best.reward >= self.threshold and best.reward > worst.reward:
            yield paired(best.document, worst.document)
