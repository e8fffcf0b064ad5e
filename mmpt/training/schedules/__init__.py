"""Learning rate as a pure function of the step: a factor on the optimizer's."""

from abc import abstractmethod
from typing import ClassVar

import pydantic

from mmpt.methods import Method


class Schedule(Method):
    """A linear warm-up, which every schedule has, and then what its kind says."""

    key: ClassVar[str] = "schedule"
    default_kind: ClassVar[str] = "cosine"

    warmup_steps: int = pydantic.Field(default=0, ge=0)
    """Updates over which the rate rises linearly; the last of them has the full rate."""
    warmup_from: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Where the warm-up starts, as a fraction of the learning rate: above 0 for a model that is warmed up once more."""

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate of update `step`, counted from 1, of `steps` is multiplied by: 0 … 1."""
        if step <= self.warmup_steps:
            return self.warmup_from + (1.0 - self.warmup_from) * (step / self.warmup_steps)
        return self.after_warmup(step, steps)

    @abstractmethod
    def after_warmup(self, step: int, steps: int) -> float:
        """`factor` of a step behind the warm-up."""

    @property
    def phases(self) -> int:
        """Steps of all the phases whose length is given."""
        return self.warmup_steps

    def check(self, steps: int) -> None:
        """Raise `ValueError` where the phases do not fit into `steps`."""
        if 0 < steps <= self.warmup_steps:
            raise ValueError(f"schedule.warmup_steps is {self.warmup_steps}, expected fewer than steps ({steps})")
        if self.phases > steps:
            raise ValueError(f"schedule: the phases of {self.kind} take {self.phases} steps, more than steps ({steps})")

    def progress(self, step: int, steps: int, first: int | None = None) -> float:
        """How far `step` is on the way from step `first` (by default the end of the warm-up) to the last: 0 … 1."""
        first = self.warmup_steps if first is None else first
        return min(1.0, max(0.0, (step - first) / max(1, steps - first)))
