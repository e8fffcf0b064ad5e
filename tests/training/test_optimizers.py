"""Optimizers: against the papers' formulas written out, and what each says that it keeps. Muon's own tests: test_muon.py."""

import pytest
import torch
from torch import nn

from mmpt.training.engine import parameter_groups
from mmpt.training.optimizers import Optimizer
from mmpt.training.optimizers.adafactor import Adafactor
from mmpt.training.optimizers.adamw import AdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(3, 6, 3), nn.Flatten(), nn.Linear(24, 5), nn.LayerNorm(5))


def updates(settings: Optimizer, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, list[list[torch.Tensor]]]:
    """A network after some updates, its optimizer, and the gradients of each step."""
    model, gradients = network(), []
    optimizer = settings.build(parameter_groups(model, settings))
    for step in range(steps):
        optimizer.zero_grad()
        shown = torch.randn(8, 3, 6, generator=torch.Generator().manual_seed(step))
        model(shown).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        optimizer.step()
    return model, optimizer, gradients


@pytest.mark.parametrize("kind", Optimizer.names())
def test_what_an_optimizer_says_that_it_keeps_is_what_it_keeps(kind):
    settings = Optimizer.member(kind)(learning_rate=0.01)
    model, optimizer, _ = updates(settings, 1)
    apart = settings.apart(model)
    for parameter in model.parameters():
        kept = {name: tuple(value.shape) for name, value in optimizer.state[parameter].items() if name != "step"}
        assert kept == settings.state(parameter.shape, id(parameter) in apart)
        assert float(optimizer.state[parameter]["step"]) == 1.0


def test_adamw_is_the_formula_of_the_paper():
    settings = AdamW(learning_rate=0.02, betas=(0.8, 0.9), weight_decay=0.5)
    model, _, gradients = updates(settings)
    for number, (found, start) in enumerate(zip(model.parameters(), network().parameters(), strict=True)):
        weight, first, second = start.detach().double(), 0.0, 0.0
        for step, slopes in enumerate(gradients, start=1):
            slope = slopes[number].double()
            weight = weight * (1 - 0.02 * (0.5 if weight.ndim > 1 else 0.0))
            first, second = 0.8 * first + 0.2 * slope, 0.9 * second + 0.1 * slope**2
            weight = weight - 0.02 * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        assert torch.allclose(found.double(), weight, atol=1e-6)


def test_adafactor_is_algorithms_4_and_5_of_the_paper():
    settings = Adafactor(learning_rate=0.02, weight_decay=0.5, beta2_decay=-0.7)
    model, _, gradients = updates(settings)
    for number, (found, start) in enumerate(zip(model.parameters(), network().parameters(), strict=True)):
        weight, rows, columns, whole = start.detach().double(), 0.0, 0.0, 0.0
        for step, slopes in enumerate(gradients, start=1):
            square = slopes[number].double() ** 2
            new = step**-0.7
            rate = max(1e-3, weight.square().mean().sqrt()) * min(0.02, step**-0.5)
            if weight.ndim > 1:
                rows = (1 - new) * rows + new * square.mean(dim=-1, keepdim=True)
                columns = (1 - new) * columns + new * square.mean(dim=-2, keepdim=True)
                second = rows * columns / rows.mean(dim=-2, keepdim=True)
                weight = weight * (1 - 0.02 * 0.5)
            else:
                second = whole = (1 - new) * whole + new * square
            update = slopes[number].double() / second.sqrt()
            weight = weight - rate * update / max(1.0, update.square().mean().sqrt())
        assert torch.allclose(found.double(), weight, atol=1e-5)
