"""The trainer's step on one process: what of the terms becomes the gradient, and what is told."""

import math

import pytest
import torch
from torch import nn

from mmpt.errors import DataError
from mmpt.tokenizers.terms import Share, Term, Trainable
from mmpt.training.config import TrainerConfig
from mmpt.training.distributed import World
from mmpt.training.trainer import NonFiniteError, Wrapped, train_step

CONFIG = TrainerConfig(steps=10, optimizer={"learning_rate": 1.0, "gradient_clip": 0}, schedule="constant")


class Alone(World):
    """A world of one rank without a process group."""

    def sum(self, values):
        return values

    def gather(self, text):
        return [text]


class Rows(Trainable):
    """Batches are numbers; `many` is learned of several of them, whose counts are announced or found."""

    def __init__(self, announced: bool = True, scale: float = 1.0):
        super().__init__()
        self.w, self.announced, self.scale = nn.Parameter(torch.tensor([2.0, 3.0])), announced, scale

    def share(self, batches):
        counts = {"many": torch.tensor(float(sum(map(len, batches))), dtype=torch.float64)} if self.announced else {}
        counts |= {"even": torch.tensor(4.0, dtype=torch.float64)} if self.announced else {}
        return Share(batches, counts, {"rows": float(sum(map(len, batches)))}, tuple(f"of {len(one)}" for one in batches))

    def loss(self, batch, progress):
        return {
            "many": Term(self.scale * (self.w[0] * batch).sum(), torch.tensor(float(len(batch))), 0.5),
            "even": Term(self.w[1] * 2, torch.tensor(2.0), 3.0, beside=True),
            "told": Term(torch.tensor([batch.sum(), 7.0]), torch.tensor([float(len(batch)), 0.0]), 0.0),
        }


class Engine:
    """What DeepSpeed does on one rank at ZeRO stage 0, with plain gradient descent."""

    def __init__(self, trainable, accumulated):
        self.module = Wrapped(trainable, CONFIG.optimizer, False, torch.device("cpu"))
        self.optimizer = torch.optim.SGD([{"params": list(trainable.parameters()), "factor": 0.1}], lr=9.0)
        self.micro_steps, self.accumulated = 0, accumulated

    def __call__(self, batch, progress):
        return self.module(batch, progress)

    def backward(self, loss, scale_wrt_gas):
        assert scale_wrt_gas is False
        loss.backward()

    def step(self):
        self.micro_steps += 1
        if self.micro_steps % self.accumulated == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def zero_grad(self):
        self.optimizer.zero_grad()


def step(trainable, *batches, config=CONFIG):
    engine = Engine(trainable, len(batches))
    world = Alone(0, 1, torch.device("cpu"))
    return train_step(engine, [torch.tensor(one) for one in batches], 1, config, world, 15)


def test_terms_are_weighted_over_all_batches_of_a_step_whatever_their_sizes():
    rows = Rows()
    found = step(rows, [1.0, 2.0, 6.0], [3.0])
    assert found.loss == pytest.approx(0.5 * 2.0 * 12 / 4) and found.stop == 15 and found.amounts == {"rows": 4.0}
    assert found.means["even"].item() == pytest.approx(3.0)  # beside the loss, and learned all the same
    assert found.means["told"].tolist() == [3.0, 14.0] and found.counts["told"].tolist() == [4.0, 0.0]  # no count: a sum
    slopes = torch.tensor([0.5 * 12 / 4, 3.0 * 4 / 4])
    assert torch.allclose(rows.w, torch.tensor([2.0, 3.0]) - 0.1 * slopes)
    assert found.gradient_norm == pytest.approx(slopes.norm().item())


def test_counts_that_are_found_with_the_terms_give_the_same():
    announced, found = Rows(), Rows(announced=False)
    one, other = step(announced, [1.0, 2.0, 6.0]), step(found, [1.0, 2.0, 6.0])
    assert one.loss == other.loss and other.counts["many"].item() == 3.0
    # `even` was announced as the count of two batches.
    assert torch.equal(announced.w[0], found.w[0])


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_names_its_batches(scale):
    rows = Rows(scale=scale)
    with pytest.raises(
        NonFiniteError, match=r"step 1: the loss is .*rank 0: documents of 2; no weight was changed.*=\[1\]"
    ) as told:
        step(rows, [1.0, 2.0])
    assert told.value.stop == 15 and rows.w.tolist() == [2.0, 3.0]


def test_a_step_without_anything_to_learn_is_an_error():
    rows = Rows()
    rows.share = lambda batches: Share(
        batches, {"many": torch.zeros((), dtype=torch.float64), "even": torch.ones(())}, {}, ("a",)
    )
    with pytest.raises(DataError, match="no token has a weight above 0"):
        step(rows, [0.0])
