"""Preference optimisation on two ranks: one global loss, also under ZeRO, and a resumed run compares with the same start. The
scenarios run in preference_ranks.py."""

import sys
from pathlib import Path

import pytest
from thorough import thorough

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("preference_ranks.py", tmp_path_factory.mktemp("preferences"))


@pytest.mark.parametrize("stage", [0, 3, *thorough(2)])
def test_two_ranks_make_the_step_of_one(results, stage):
    one, two = results["one-1-0"], results[f"one-2-{stage}"]
    assert two["codes"] == [0, 0]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6) and two["norm"] == pytest.approx(one["norm"], rel=1e-5)
    assert two["means"]["dpo_margin"] == pytest.approx(one["means"]["dpo_margin"], rel=1e-5)
    assert two["weights"] == pytest.approx(one["weights"], abs=1e-5)


@pytest.mark.parametrize("name", ["resume-0", *thorough("resume-3")])
def test_a_resumed_run_compares_with_the_model_as_it_began(results, name):
    run = results[name]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["resumed"] == run["straight"] and all(run["same_files"])
    assert run["margins"][0] == 0 and run["margins"][-1] > run["margins"][1]


def test_what_learns_beside_frozen_weights_is_compared_with_what_it_was(results):
    run = results["adapted"]
    assert run["codes"] == [[0], [0]]
    for margins in run["margins"]:  # each run begins where it is compared with
        assert margins[0] == pytest.approx(0, abs=1e-5) and margins[-1] > 0.01
