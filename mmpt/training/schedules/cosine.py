"""A half cosine down to the floor."""

import math

import pydantic

from mmpt.training.schedules import Schedule


class Cosine(Schedule):
    """A half cosine from the full rate to the floor at the last step (Loshchilov and Hutter 2016, SGDR, arXiv:1608.03983, one
    period)."""

    floor: float = pydantic.Field(default=0.1, ge=0, le=1)
    """The rate of the last step, as a fraction of the learning rate."""

    def after_warmup(self, step: int, steps: int) -> float:
        remaining = 0.5 * (1.0 + math.cos(math.pi * self.progress(step, steps)))
        return self.floor + (1.0 - self.floor) * remaining
