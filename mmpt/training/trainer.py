"""The trainer: one step over the batches of all ranks, and the loop over steps, for whatever returns terms.

The loss of a step is the sum over its terms of weight · Σ total ÷ Σ count, both sums over every batch of every rank: never a mean
of means, so that it does not matter how a step's examples are shared out among batches and ranks.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmpt.errors import DataError, MmptError
from mmpt.tokenizers.terms import Share, Term, Trainable
from mmpt.training.config import TrainerConfig
from mmpt.training.distributed import World
from mmpt.training.optimizers import Optimizer

if TYPE_CHECKING:
    from mmpt.training.background import Background
    from mmpt.training.metrics import Metrics

Terms = dict[str, Term]


class NonFiniteError(MmptError):
    """The loss or the gradient of a step is infinite or NaN; the weights are those before the step, and another may follow.

    `stop` is that of `StepResult`; every rank raises it.
    """

    def __init__(self, message: str, stop: int = 0) -> None:
        super().__init__(message)
        self.stop = stop


@dataclass(frozen=True)
class StepResult:
    """Of one step, over all ranks: `loss`, the weighted sum of the means of its terms (but of those that are told beside it);
    `means` and `counts` of each term (float64, of its shape; where the count is 0, the sum), `amounts` of work, `gradient_norm`
    before clipping, and `stop`: the largest number that a rank asked to stop with, else 0."""

    loss: float
    means: dict[str, Tensor]
    counts: dict[str, Tensor]
    amounts: dict[str, float]
    learning_rate: float
    gradient_norm: float
    stop: int


class Line(NamedTuple):
    """What the log is told of a step: `figures`, with at least `loss`, and `amounts` of work over all ranks."""

    figures: dict[str, Any]
    amounts: dict[str, float]


class Verdict(NamedTuple):
    """Of an evaluation: whether a checkpoint is to be saved, and whether the run ends."""

    save: bool
    stop: bool


GO_ON = Verdict(save=False, stop=False)


class Wrapped(nn.Module):
    """What DeepSpeed wraps: a batch in, the terms of its loss out, or without a `progress` what is measured of it. `optimizer`:
    the settings of the one that trains it; `mixed`: matrix products in bfloat16 by autocast."""

    def __init__(self, trainable: Trainable, optimizer: Optimizer, mixed: bool, device: torch.device) -> None:
        super().__init__()
        self.trainable, self.optimizer, self.mixed, self.device = trainable, optimizer, mixed, device

    def forward(self, batch: Any, progress: float | None) -> Terms:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            return self.trainable.measure(batch) if progress is None else self.trainable.loss(batch, progress)


class Engine(Protocol):
    """What is used of a DeepSpeed engine. Its own annotations leave `module` and `optimizer` open."""

    @property
    def module(self) -> Wrapped:
        """What it wraps."""
        ...

    optimizer: Any
    """torch's, or ZeRO's around it, whose `param_groups` are the same."""
    micro_steps: int
    global_rank: int

    def __call__(self, batch: Any, progress: float | None) -> Terms: ...
    def backward(self, loss: Tensor, scale_wrt_gas: bool) -> object: ...
    def step(self) -> object: ...
    def zero_grad(self) -> object: ...
    def was_step_applied(self) -> bool: ...
    def get_global_grad_norm(self) -> float: ...
    def zero_optimization(self) -> bool: ...
    def zero_optimization_stage(self) -> int: ...


def train(
    engine: Engine,
    batches: Iterable[list[Any]],
    first: int,
    config: TrainerConfig,
    world: World,
    log: "Metrics",
    saving: "Background",
    figures: Callable[[int, StepResult], Line],
    save: Callable[[int], object],
    asked: Callable[[], int],
    evaluate: Callable[[int], "Verdict"] = lambda step: GO_ON,
) -> int:
    """Train from step `first` to the last, to the one in which `asked` gives the number of a signal, or behind which `evaluate`
    says so, which is called after each step.

    Returns that number, else 0. `batches` gives those of this rank for each step. `save` publishes a checkpoint by `saving`.
    """
    for step, given in zip(range(first, config.steps + 1), log.waiting(batches), strict=False):
        if step in config.run.skip_steps:
            continue
        try:
            result = train_step(engine, given, step, config, world, asked())
            log.log(step, *figures(step, result))
        except NonFiniteError as problem:
            result = log.skip(step, problem)
        saving.check()
        verdict = evaluate(step)
        if step % config.run.save_every == 0 or step == config.steps or result.stop or verdict.save:
            save(step)
        if result.stop or verdict.stop:
            return result.stop
    return 0


def train_step(engine: Engine, batches: list[Any], step: int, config: TrainerConfig, world: World, stop: int = 0) -> StepResult:
    """Train on this rank's `batches` of step `step` (counted from 1).

    `stop` is a number of 0 or more, such as a signal; all ranks get the largest. Every random choice inside the step (dropout) is
    a function of (seed, step, rank). Raises `NonFiniteError`, before the optimizer has changed a weight, and `DataError` where
    no batch of the step has anything to learn.
    """
    world.mark(f"in step {step}")
    seed_step(config.run.seed, step, world.rank)
    rate = config.learning_rate(step)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    # Before anything goes to the device: what all terms will be divided by, summed over the ranks.
    share: Share = engine.module.trainable.share(batches)
    counts = _summed(share.counts, world) if share.counts else {}
    progress, learned = (step - 1) / config.steps, []
    # Until the sums at the end of the step, nothing is asked of the device that it would have to be waited for, where the counts
    # are known beforehand.
    for number, batch in enumerate(share.batches, start=1):
        world.mark(f"in step {step}, pack {number} of {len(share.batches)}")
        terms: Terms = engine(batch, progress)
        if not share.counts:
            counts = _summed({name: term.count for name, term in terms.items() if term.weight}, world)
        # DeepSpeed averages over ranks; `scale_wrt_gas=False` keeps it from dividing by the accumulation steps too.
        engine.backward(_loss(terms, counts, world.size), scale_wrt_gas=False)
        learned.append({name: term.detached() for name, term in terms.items()})
        if number < len(share.batches):
            engine.step()
    world.mark(f"in step {step}, after its last pack")
    means, counts, amounts, stop = _reduced(learned, counts, share, stop, world)
    parts = {name: (term.weight, term.beside) for name, term in learned[0].items() if term.weight}
    if share.counts and not any(counts[name] for name, (_, beside) in parts.items() if not beside):
        _drop(engine, config)
        raise DataError(f"step {step}: no token has a weight above 0 (see objectives); {_documents(share.names)}")
    loss = sum(weight * means[name].item() for name, (weight, beside) in parts.items() if not beside)
    if not all(math.isfinite(means[name]) for name in parts):
        guilty = [name for name, terms in zip(share.names, learned, strict=bool(share.names)) if not _finite(terms)]
        each = f" ({', '.join(f'{name} {means[name].item():.4g}' for name in parts)})" if len(parts) > 1 else ""
        _drop(engine, config)
        raise NonFiniteError(_message(step, f"the loss is {loss}{each}", guilty, share, world), stop)
    norm = update(engine, config)
    if norm is None:
        raise NonFiniteError(_message(step, "the gradient is not finite", share.names, share, world), stop)
    return StepResult(loss, means, counts, amounts, rate, norm, stop)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Start torch's random numbers of a step (dropout, noise) anew on this rank."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1))


def _summed(counts: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """`counts` over all ranks, float64 on the device."""
    found = world.sum(torch.stack([count.double() for count in counts.values()]).to(world.device))
    return dict(zip(counts, found, strict=True))


def _loss(terms: Terms, counts: dict[str, Tensor], ranks: int) -> Tensor:
    """What a batch adds to the loss of the step, on the scale that DeepSpeed's mean over the ranks takes back."""
    learned = {name: term for name, term in terms.items() if term.weight}
    # A term of nothing (no code was given yet) is 0, not 0 / 0.
    scales = {name: term.weight * ranks / torch.where(counts[name] == 0, 1.0, counts[name]) for name, term in learned.items()}
    return _total(term.total * scales[name].float() for name, term in learned.items())


def _reduced(
    learned: list[Terms], known: dict[str, Tensor], share: Share, stop: int, world: World
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float], int]:
    """(means and counts of each term, amounts, stop) over all ranks by one all-reduce of float64 sums: the only wait of a step
    whose counts were known."""
    sums: list[Tensor] = []
    for name, term in learned[0].items():
        sums.append(_total(terms[name].total.double() for terms in learned).reshape(-1))
        if not term.weight:
            sums.append(_total(terms[name].count.double() for terms in learned).reshape(-1))
    asked = torch.zeros(world.size, dtype=torch.float64)
    asked[world.rank] = stop
    host = torch.cat([torch.tensor(list(share.amounts.values()), dtype=torch.float64), asked])
    # A signal counts on every rank or on none: a rank that stopped alone would leave the others in a collective.
    flat = world.sum(torch.cat([*sums, host.to(world.device)])).cpu()
    *pieces, amounts, asked = flat.split([*map(len, sums), len(share.amounts), world.size])
    found, means, counts = iter(pieces), {}, {}
    for name, term in learned[0].items():
        total = next(found).view(term.total.shape)
        counts[name] = known[name].cpu() if term.weight else next(found).view(term.count.shape)
        means[name] = total / torch.where(counts[name] == 0, 1.0, counts[name])
    return means, counts, dict(zip(share.amounts, amounts.tolist(), strict=True)), int(asked.max())


def update(engine: Engine, config: TrainerConfig) -> float | None:
    """Clip and step. Returns the gradient's norm before clipping, or None where it is not finite: then no weight was changed."""
    if config.zero_stage == 0:
        limit = config.optimizer.gradient_clip or math.inf
        trainable = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
        # DeepSpeed has averaged the gradients by now: every rank finds the same norm, and takes or drops the step alike.
        norm = torch.nn.utils.clip_grad_norm_(trainable, limit).item()
        if math.isfinite(norm):
            engine.step()
            return norm
        _drop(engine, config)
        return None
    engine.step()
    # DeepSpeed skips the optimizer where the norm is not finite.
    return float(engine.get_global_grad_norm()) if engine.was_step_applied() else None


def _drop(engine: Engine, config: TrainerConfig) -> None:
    """Forget the gradients of a step, and count its last pack as done."""
    if config.zero_stage == 0:
        engine.zero_grad()
        engine.micro_steps += 1
        return
    # DeepSpeed leaves the step out by itself; were the gradient finite all the same, this rate would.
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    engine.step()


def _total(tensors: Iterable[Tensor]) -> Tensor:
    """Their sum, one after the other: the order of a sum decides its last bits."""
    return functools.reduce(operator.add, tensors)


def _finite(terms: Terms) -> bool:
    return all(bool(torch.isfinite(term.total)) for term in terms.values() if term.weight)


def _documents(names: Iterable[str]) -> str:
    return f"documents {', '.join(names)}"


def _message(step: int, what: str, names: Iterable[str], share: Share, world: World) -> str:
    """What is said of a step that was dropped, with the documents of each rank, where they have names; every rank calls it."""
    found = world.gather(", ".join(names))
    where = "; ".join(f"rank {rank}: {_documents([one])}" for rank, one in enumerate(found) if one)
    shows = f"`mmpt inspect RUN --batch {step}` shows the batch, " if share.names else ""
    said = f"step {step}: {what}{', ' if where else ''}{where}"
    return f"{said}; no weight was changed; {shows}run.skip_steps=[{step}] leaves it out"
