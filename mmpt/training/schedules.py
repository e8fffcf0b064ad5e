"""Learning rate as a pure function of the step."""

import math

from mmpt.training.config import OptimizationConfig


def learning_rate(step: int, config: OptimizationConfig) -> float:
    """Learning rate of update `step`, counted from 1.

    Linear warmup over `warmup_steps`, from `warmup_from` · `learning_rate`, reaches `learning_rate` at its last step. Then
    `cosine` (arXiv:1608.03983) and `linear` fall to `min_learning_rate` · `learning_rate` at step `steps`; `constant` stays;
    `wsd` (warmup, stable, decay; arXiv:2404.06395) stays and falls linearly over the last `decay_steps`. `infinite` (Ibrahim et
    al. 2024, arXiv:2403.08763) falls over `cooldown_steps` by a half cosine to `min_learning_rate` · `learning_rate`, stays there
    for as long as the run is, and over the last `decay_steps`, if any, falls linearly to 0.
    """
    if step <= config.warmup_steps:
        share = step / config.warmup_steps
        return config.learning_rate * (config.warmup_from + (1.0 - config.warmup_from) * share)
    if config.schedule == "infinite":
        return config.learning_rate * _infinite(step, config)
    first = config.steps - config.decay_steps if config.schedule == "wsd" else config.warmup_steps
    progress = min(1.0, max(0.0, (step - first) / max(1, config.steps - first)))
    remaining = {
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "linear": 1.0 - progress,
        "constant": 1.0,
        "wsd": 1.0 - progress,
    }[config.schedule]
    return config.learning_rate * (config.min_learning_rate + (1.0 - config.min_learning_rate) * remaining)


def _infinite(step: int, config: OptimizationConfig) -> float:
    least, decay = config.min_learning_rate, config.decay_steps or 0
    if decay and step > config.steps - decay:
        return least * (config.steps - step) / decay
    progress = min(1.0, (step - config.warmup_steps) / config.cooldown_steps)
    return least + (1.0 - least) * 0.5 * (1.0 + math.cos(math.pi * progress))
