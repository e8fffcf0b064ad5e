"""How changes of weights become one: by hand, and against peft's merging of adapters."""

import pytest
import torch
from peft.utils import merge_utils

from mmpt.errors import ConfigError
from mmpt.model.merges.average import Average
from mmpt.model.merges.dare_linear import DareLinear
from mmpt.model.merges.dare_ties import DareTies
from mmpt.model.merges.task_arithmetic import TaskArithmetic
from mmpt.model.merges.ties import Ties

ONE = torch.tensor([5.0, -4.0, 0.3, 2.0, -0.1], dtype=torch.float64)
TWO = torch.tensor([1.0, 6.0, -0.2, -3.0, 0.5], dtype=torch.float64)


def test_ties_by_hand():
    # 3 of 5 are kept: (5, −4, 0, 2, 0) and (1, 6, 0, −3, 0), whose sums are 6, 2, 0, −1, 0; of the second and fourth place one
    # number alone has the sign of the sum.
    assert Ties(density=0.6).change([ONE, TWO], [1.0, 1.0]).tolist() == [3.0, 6.0, 0.0, -3.0, 0.0]
    # The second taken away: (5, −4, 0, 2, 0) and (−1, −6, 0, 3, 0), whose sums are 4, −10, 0, 5, 0.
    assert Ties(density=0.6).change([ONE, TWO], [1.0, -1.0]).tolist() == [5.0, -5.0, 0.0, 2.5, 0.0]
    # One alone, whole, is itself.
    assert Ties(density=1).change([ONE], [1.0]).tolist() == ONE.tolist()


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        (Ties(density=0.3), merge_utils.ties),
        (DareTies(density=0.3), merge_utils.dare_ties),
        (DareLinear(density=0.3), merge_utils.dare_linear),
    ],
)
def test_changes_are_merged_as_peft_merges_adapters(method, wanted):
    draw = torch.Generator().manual_seed(0)
    changes = [torch.randn(7, 9, generator=draw, dtype=torch.float64) for _ in range(3)]
    torch.manual_seed(4)
    found = method.change(changes, [0.7, 0.7, 0.7])
    torch.manual_seed(4)
    assert torch.allclose(found, wanted(changes, torch.full((3,), 0.7, dtype=torch.float64), density=0.3), atol=1e-12)


def test_sums_and_means():
    assert torch.equal(TaskArithmetic().change([ONE, TWO], [2.0, -1.0]), 2 * ONE - TWO)
    assert torch.equal(TaskArithmetic().change([ONE, TWO], [0.0, 0.0]), torch.zeros_like(ONE))
    # A domain's vector of nothing leaves that of the instructions.
    assert torch.equal(TaskArithmetic().change([torch.zeros_like(ONE), TWO], [1.0, 1.0]), TWO)
    assert torch.allclose(Average().change([ONE, TWO], [3.0, 1.0]), (3 * ONE + TWO) / 4)
    with pytest.raises(ConfigError, match="sum above 0"):
        Average().change([ONE, TWO], [1.0, -1.0])


def test_dropped_numbers_are_made_up_for():
    torch.manual_seed(0)
    change = torch.ones(20_000, dtype=torch.float64)
    found = DareLinear(density=0.25).change([change], [1.0])
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert found.mean().item() == pytest.approx(1.0, abs=4 * (3 / 20_000) ** 0.5)  # four deviations of the mean
