"""Sums of gradients of bfloat16 weights, and runs that go on from copies; the scenarios run in kept_ranks.py."""

import sys
from pathlib import Path

import pytest
from thorough import thorough

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("kept_ranks.py", tmp_path_factory.mktemp("kept"))


def test_a_run_whose_disk_is_lost_goes_on_from_its_copy(results):
    run = results["copied"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]] and run["there"] == ["step-00000002"]
    assert run["resumed"] == run["straight"][2:] and run["same_files"] == [True] * len(run["same_files"])
    assert run["kept"] == ["step-00000004", "step-00000006"]


@pytest.mark.parametrize("stage", [2, *thorough(3)])
def test_gradients_of_bfloat16_weights_are_added_up_in_float32(results, stage):
    """A sum of 64 equal gradients in bfloat16 is off by percents; in float32 by nothing, since a 64th of a number is exact."""
    one, many = results[f"half-{stage}-1"], results[f"half-{stage}-64"]
    assert one["codes"] == many["codes"] == [0]
    assert many["norm"] == pytest.approx(one["norm"], rel=1e-5)
