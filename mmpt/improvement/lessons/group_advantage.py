"""How much better an answer is than the others to its prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from mmpt.data.shards.tokens import TokenDocument
from mmpt.improvement.lessons import Lesson, Scored

LEAST = 1e-6
"""A deviation of rewards below which a group has nothing to say."""


class GroupAdvantage(Lesson):
    """Every answer, with its reward less the mean of those to its prompt, over their standard deviation, as its advantage (GRPO,
    Shao et al. 2024, arXiv:2402.03300, equation 3). Prompts whose answers are all worth the same are left out."""

    objectives: ClassVar[tuple[str, ...]] = ("grpo",)
    carries: ClassVar[tuple[str, ...]] = ("OpenVLThinker",)

    scale: bool = True
    """Divide by the standard deviation; false as in Dr. GRPO (Liu et al. 2025, arXiv:2503.20783), which finds that it favours
    prompts that are nearly always, or never, answered."""

    def documents(self, group: Sequence[Scored]) -> Iterator[TokenDocument]:
        rewards = np.array([one.reward for one in group])
        advantages, deviation = rewards - rewards.mean(), rewards.std()
        if deviation < LEAST:
            return
        for one, advantage in zip(group, advantages / deviation if self.scale else advantages, strict=True):
            yield replace(one.document, advantage=float(advantage))
