"""Learning rate as a pure function of the step."""

import math

from mmpt.training.config import OptimizationConfig


def learning_rate(step: int, config: OptimizationConfig) -> float:
    """Learning rate of update `step`, counted from 1.

    Linear warmup over `warmup_steps` reaches `learning_rate` at its last step. Then `cosine` (arXiv:1608.03983) and `linear` fall
    to `min_learning_rate` · `learning_rate` at step `steps`; `constant` stays; `wsd` (warmup, stable, decay; arXiv:2404.06395)
    stays and falls linearly over the last `decay_steps`.
    """
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    first = config.steps - config.decay_steps if config.schedule == "wsd" else config.warmup_steps
    progress = min(1.0, max(0.0, (step - first) / max(1, config.steps - first)))
    remaining = {
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "linear": 1.0 - progress,
        "constant": 1.0,
        "wsd": 1.0 - progress,
    }[config.schedule]
    return config.learning_rate * (config.min_learning_rate + (1.0 - config.min_learning_rate) * remaining)
