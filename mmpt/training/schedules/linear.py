"""A straight line down to the floor."""

import pydantic

from mmpt.training.schedules import Schedule


class Linear(Schedule):
    """A straight line from the full rate to the floor at the last step (Devlin et al. 2018, BERT, arXiv:1810.04805, whose line
    ends at 0)."""

    floor: float = pydantic.Field(default=0.1, ge=0, le=1)
    """The rate of the last step, as a fraction of the learning rate."""

    def after_warmup(self, step: int, steps: int) -> float:
        return self.floor + (1.0 - self.floor) * (1.0 - self.progress(step, steps))
