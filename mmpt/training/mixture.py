"""The mixture of a run: weights of its sources in an epoch, or in each phase of the run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mmpt.data.loading.mixture import mixture_weights
from mmpt.data.loading.phases import Phase
from mmpt.data.shards.read import TokenShards
from mmpt.training.config import TrainingConfig
from mmpt.vocabulary import MODALITIES


class Mixed(NamedTuple):
    """What a loader takes: one of `mixture` and `phases`, and a factor on the `loss` of each source."""

    sources: list[TokenShards]
    loss: list[float]
    mixture: list[float] | None
    phases: list[Phase] | None


def mixture_of(config: TrainingConfig, sources: Sequence[TokenShards]) -> Mixed:
    """Of the `sources` of `config.data`. With phases, a folder that is named several times is one source, with as many weights.

    Raises `ConfigError` where budgets cannot be met.
    """
    tokens = np.array([[source.manifest.counts[name] for name in MODALITIES] for source in sources])
    weights = [
        one.weight if one.tokens is None else round(one.tokens / max(held, 1), 6)
        for one, held in zip(config.data, tokens.sum(axis=1).tolist(), strict=True)
    ]
    budgets, loss = config.loader.budgets, [one.loss for one in config.data]
    if all((one.begin, one.until) == (0.0, 1.0) for one in config.data):
        return Mixed(list(sources), loss, mixture_weights(tokens, budgets, weights) if budgets else weights, None)
    spans = [(round(one.begin * config.steps), round(one.until * config.steps)) for one in config.data]
    places = {(one.path, one.loss): number for number, one in reversed(list(enumerate(config.data)))}
    first = sorted(places.values())  # of each folder, the first time that it is named
    own = [first.index(places[one.path, one.loss]) for one in config.data]
    phases = []
    for start, end in pairwise(sorted({0, config.steps, *(edge for span in spans for edge in span)})):
        active = [number for number, (begin, until) in enumerate(spans) if begin <= start and end <= until]
        now = [weights[number] for number in active]
        if budgets:
            now = mixture_weights(tokens[active], budgets, now)
        summed = [0.0] * len(first)
        for number, weight in zip(active, now, strict=True):
            summed[own[number]] += weight
        phases.append(Phase(end, tuple(summed)))
    return Mixed([sources[number] for number in first], [loss[number] for number in first], None, phases)
