"""The same rate to the end."""

from mmpt.training.schedules import Schedule


class Constant(Schedule):
    """The full rate behind the warm-up, to the last step (own: nothing to cite; for stages that others follow)."""

    def after_warmup(self, step: int, steps: int) -> float:
        return 1.0
