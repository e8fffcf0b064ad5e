"""GaLore: AdamW along directions of the gradient."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmpt.training.engine import parameter_groups
from mmpt.training.optimizers.galore import GaLore

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

BETAS, RATE, DECAY = (0.8, 0.9), 0.02, 0.5


def run(shape: tuple[int, int], settings: GaLore, gradients: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """(the weight before and after, its state)."""
    torch.manual_seed(1)
    layer = nn.Linear(shape[1], shape[0], bias=False)
    before = layer.weight.detach().clone()
    optimizer = settings.build(parameter_groups(layer, settings))
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        optimizer.step()
    return before, layer.weight.detach(), optimizer.state[layer.weight]


def slopes(shape: tuple[int, int], count: int = 5) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) for _ in range(count)]


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_of_full_rank_it_is_adamw_in_a_rotated_basis(shape):
    gradients = slopes(shape)
    settings = GaLore(learning_rate=RATE, betas=BETAS, weight_decay=DECAY, rank=64, scale=1.0)
    before, found, state = run(shape, settings, gradients)
    basis = state["basis"]
    assert torch.allclose(basis.T @ basis, torch.eye(min(shape)), atol=1e-5)
    turned = (lambda one: one @ basis) if shape[0] >= shape[1] else (lambda one: basis.T @ one)
    weight = nn.Parameter(turned(before))
    adamw = torch.optim.AdamW([weight], lr=RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    for gradient in gradients:
        weight.grad = turned(gradient)
        adamw.step()
    assert torch.allclose(turned(found), weight, atol=1e-5)
    assert torch.allclose(run(shape, settings.model_copy(update={"scale": 0.5}), gradients[:1])[1] - before * (1 - RATE * DECAY),
                          (run(shape, settings, gradients[:1])[1] - before * (1 - RATE * DECAY)) / 2, atol=1e-6)  # fmt: skip


def test_the_formula_of_the_paper_with_directions_found_anew_in_float64():
    shape, rank = (6, 4), 2
    gradients = slopes(shape, 7)
    settings = GaLore(learning_rate=RATE, betas=BETAS, weight_decay=DECAY, rank=rank, every=3)
    before, found, state = run(shape, settings, gradients)
    weight, first, second = before.double(), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient.double()
        if step % 3 == 1:
            # Signs of singular vectors are free, and moments outlive them: those that torch gives of the same matrix.
            directions = torch.linalg.svd(gradients[step - 1], full_matrices=False)[2][:rank].T.double()
        low = gradient @ directions
        first, second = 0.8 * first + 0.2 * low, 0.9 * second + 0.1 * low**2
        update = (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        weight = weight * (1 - RATE * DECAY) - RATE * 0.25 * update @ directions.T
    assert torch.allclose(found.double(), weight, atol=1e-5)
    kept = {name: tuple(value.shape) for name, value in state.items() if name != "step"}
    assert kept == settings.state(shape, True) == {"exp_avg": (6, 2), "exp_avg_sq": (6, 2), "basis": (4, 2)}


def test_its_updates_lie_in_the_strongest_directions():
    left, right = torch.randn(8, 1, generator=torch.Generator().manual_seed(3)), torch.eye(6)[:, :1]
    gradient = left @ right.T + 1e-3 * slopes((8, 6), 1)[0]
    settings = GaLore(learning_rate=RATE, weight_decay=0.0, rank=1)
    before, found, _ = run((8, 6), settings, [gradient])
    moved = found - before
    assert torch.linalg.matrix_rank(moved, atol=1e-6) == 1 and moved[:, 0].norm() > 0.999 * moved.norm()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("galore_ranks.py", tmp_path_factory.mktemp("galore"))


@pytest.mark.ranks
def test_two_ranks_go_where_one_goes(results):
    one, two = results["step-1"], results["step-2"]
    assert one["norm"] == pytest.approx(two["norm"], rel=1e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 1e-4


@pytest.mark.ranks
def test_killed_while_saving_and_resumed_has_the_same_bits(results):
    run = results["resume"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["resumed"] == run["straight"] and all(run["same_files"])
