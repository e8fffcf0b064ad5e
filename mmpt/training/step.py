"""One optimizer step over the packs of all ranks. The loss is Σ weight·nll / Σ weight, both sums over every pack of the step.

A mixture of experts that asks for it also learns Σ tokens·balance / Σ tokens over the same packs (see `mmpt.model.balance`)."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import DataError, MmptError
from mmpt.model.forward import LossParts, supervise
from mmpt.model.sequence import cut
from mmpt.training.config import OptimizationConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.schedules import learning_rate
from mmpt.vocabulary import MODALITIES


class NonFiniteError(MmptError):
    """The loss or the gradient of a step is infinite or NaN; the weights are those before the step, and another may follow.

    `stop` is that of `StepResult`; every rank raises it.
    """

    def __init__(self, message: str, stop: int = 0) -> None:
        super().__init__(message)
        self.stop = stop


@dataclass(frozen=True)
class StepResult:
    """Of one step, over all ranks: `loss` in nats, `balance`, which is learned beside it (0 where there is none), mean `nll`,
    share of right predictions (`accuracy`) and number of `targets` by modality (those present), `tokens` read, `gradient_norm`
    before clipping, floating-point operations counted as in `mmpt.training.flops` (`flops`, and `flops_full` with attention over
    whole rows), and `stop`: the largest number that a rank asked to stop with, else 0."""

    loss: float
    balance: float
    nll: dict[str, float]
    accuracy: dict[str, float]
    targets: dict[str, int]
    tokens: int
    learning_rate: float
    gradient_norm: float
    flops: float
    flops_full: float
    stop: int


def train_step(engine, batches: list[PackedBatch], step: int, config: TrainingConfig, world: World, stop: int = 0) -> StepResult:
    """Train on this rank's `batches` of step `step` (counted from 1).

    `stop` is a number of 0 or more, such as a signal; all ranks get the largest. Every random choice inside the step (dropout) is
    a function of (seed, step, rank). Raises `NonFiniteError`, before the optimizer has changed a weight, and `DataError` where
    no token of the step has a weight.
    """
    world.mark(f"in step {step}")
    seed_step(config.seed, step, world.rank)
    rate = learning_rate(step, config)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    costs = [engine.module.cost.of(batch) for batch in batches]
    read = [sum(batch.input_ids.numel() for batch in batches), *map(sum, zip(*costs, strict=True))]
    if world.sequence is not None:
        read = read if world.sequence.rank == 0 else [0, 0.0, 0.0]
        batches = [cut(batch, world.sequence) for batch in batches]
    module = engine.module
    marked = [supervise(batch, module.host_weights, module.vocabulary) for batch in batches]
    held = torch.tensor(sum(batch.input_ids.numel() for batch in batches), dtype=torch.float64)
    total, held = world.sum(torch.stack([sum(weight for _, weight in marked), held]).to(world.device))
    batches = [batch.to(world.device) for batch, _ in marked]
    # Until the sums at the end of the step, nothing is asked of the device that it would have to be waited for.
    scale, share, parts = (world.size / total).float(), (world.size / held).float(), []
    for number, batch in enumerate(batches, start=1):
        world.mark(f"in step {step}, pack {number} of {len(batches)}")
        part = engine(batch)
        # DeepSpeed averages over ranks; `scale_wrt_gas=False` keeps it from dividing by the accumulation steps too.
        engine.backward(part.loss_sum * scale + part.balance_sum * share, scale_wrt_gas=False)
        parts.append(LossParts(*(value.detach() for value in part)))
        if number < len(batches):
            engine.step()
    world.mark(f"in step {step}, after its last pack")
    total = total.item()
    if total == 0.0:
        _drop(engine, config)
        raise DataError(f"step {step}: no token has a weight above 0 (see modality_weights); documents {_names(batches)}")
    (loss, balance), nll, accuracy, targets, (tokens, flops, flops_full), stop = _reduce(parts, read, stop, world)
    loss, balance = loss / total, balance / held.item()
    if not math.isfinite(loss):
        guilty = [batch for batch, part in zip(batches, parts, strict=True) if not torch.isfinite(part.loss_sum)]
        _drop(engine, config)
        raise NonFiniteError(f"step {step}: the loss is {loss}, {_where(guilty, world)}; {_leave_out(step)}", stop)
    norm = update(engine, config)
    if norm is None:
        raise NonFiniteError(f"step {step}: the gradient is not finite, {_where(batches, world)}; {_leave_out(step)}", stop)
    return StepResult(loss, balance, nll, accuracy, targets, int(tokens), rate, norm, flops, flops_full, stop)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Start torch's random numbers of a step (dropout, noise) anew on this rank."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1))


def _reduce(parts: list[LossParts], read: list[float], stop: int, world: World):
    """(sums of loss and balance; nll, accuracy and targets by modality; `read`; stop) over all ranks by one all-reduce of float64
    sums."""
    kinds = len(MODALITIES)
    losses = torch.stack([sum(getattr(part, name).double() for part in parts) for name in ("loss_sum", "balance_sum")])
    counted = [sum(getattr(part, name).double() for part in parts) for name in ("nll_sums", "hits", "counts")]
    asked = torch.zeros(world.size, dtype=torch.float64, device=world.device)
    asked[world.rank] = stop
    amounts = torch.tensor(read, dtype=torch.float64, device=world.device)
    loss, balance, *rest = world.sum(torch.cat([losses, *counted, amounts, asked])).tolist()
    nll, hits, counts = (rest[place * kinds : (place + 1) * kinds] for place in range(3))
    means, shares = (
        {name: value / count for name, value, count in zip(MODALITIES, values, counts, strict=True) if count}
        for values in (nll, hits)
    )
    targets = {name: int(count) for name, count in zip(MODALITIES, counts, strict=True) if count}
    rest = rest[3 * kinds :]
    return (loss, balance), means, shares, targets, rest[: len(read)], int(max(rest[len(read) :]))


def update(engine, config: OptimizationConfig) -> float | None:
    """Clip and step. Returns the gradient's norm before clipping, or None where it is not finite: then no weight was changed."""
    if config.zero_stage == 0:
        limit = config.gradient_clip or math.inf
        trainable = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(trainable, limit).item()
        if math.isfinite(norm):
            engine.step()
            return norm
        _drop(engine, config)
        return None
    engine.step()
    # DeepSpeed skips the optimizer where the norm is not finite.
    return float(engine.get_global_grad_norm()) if engine.was_step_applied() else None


def _drop(engine, config: OptimizationConfig) -> None:
    """Forget the gradients of a step, and count its last pack as done."""
    if config.zero_stage == 0:
        engine.zero_grad()
        engine.micro_steps += 1
        return
    # DeepSpeed leaves the step out by itself; were the gradient finite all the same, this rate would.
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    engine.step()


def _names(batches: list[PackedBatch]) -> str:
    return ", ".join(name for batch in batches for name in batch.document_ids)


def _where(batches: list[PackedBatch], world: World) -> str:
    found = world.gather(_names(batches))
    return "; ".join(f"rank {rank}: documents {names}" for rank, names in enumerate(found) if names)


def _leave_out(step: int) -> str:
    return f"no weight was changed; `mmpt inspect RUN --batch {step}` shows the batch, skip_steps=[{step}] leaves it out"
