"""Warm-up, stable, decay."""

import pydantic

from mmpt.training.schedules import Schedule


class Wsd(Schedule):
    """The full rate, then a straight line to the floor over the last steps: warm-up, stable, decay (Hu et al. 2024, MiniCPM,
    arXiv:2404.06395)."""

    decay_steps: int = pydantic.Field(ge=1)
    """Length of the last phase, in steps."""
    floor: float = pydantic.Field(default=0.1, ge=0, le=1)
    """The rate of the last step, as a fraction of the learning rate."""

    def after_warmup(self, step: int, steps: int) -> float:
        remaining = 1.0 - self.progress(step, steps, steps - self.decay_steps)
        return self.floor + (1.0 - self.floor) * remaining

    @property
    def phases(self) -> int:
        return self.warmup_steps + self.decay_steps
