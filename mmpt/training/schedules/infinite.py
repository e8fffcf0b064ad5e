"""A schedule without an end, to go on from."""

import math
from typing import ClassVar

import pydantic

from mmpt.training.schedules import Schedule


class Infinite(Schedule):
    """A half cosine to the floor over the cool-down, then the floor for as long as the run is, at its end, if asked, a straight
    line to 0: one goes on from the floor with other data (Ibrahim et al. 2024, arXiv:2403.08763)."""

    carries: ClassVar[tuple[str, ...]] = ("Beyond Cosine Decay (infinite LR)",)

    cooldown_steps: int = pydantic.Field(ge=1)
    """Length of the phase behind the warm-up that falls to the floor, in steps."""
    decay_steps: int | None = pydantic.Field(default=None, ge=1)
    """Length of the last phase, which falls to 0, in steps; null: there is none."""
    floor: float = pydantic.Field(default=0.1, ge=0, le=1)
    """The rate between the two, as a fraction of the learning rate."""

    def after_warmup(self, step: int, steps: int) -> float:
        decay = self.decay_steps or 0
        if decay and step > steps - decay:
            return self.floor * (steps - step) / decay
        progress = min(1.0, (step - self.warmup_steps) / self.cooldown_steps)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    @property
    def phases(self) -> int:
        return self.warmup_steps + self.cooldown_steps + (self.decay_steps or 0)
