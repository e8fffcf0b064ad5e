"""ZeRO 3 with weights that come from their files one by one, against a model that each rank loads whole. The scenarios run in
hollow_ranks.py."""

import sys
from pathlib import Path

import pytest
from thorough import thorough

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("hollow_ranks.py", tmp_path_factory.mktemp("hollow"))


@pytest.mark.parametrize("name", ["lora", "untied", *thorough("tied", "half", "rows-rest")])
def test_five_steps_have_the_same_bits_and_each_rank_has_half_of_the_weights(results, name):
    run = results[name]
    assert run["codes"] == [[0, 0], [0, 0]]
    assert len(run["facts"][0]) == 5 and run["facts"][0] == run["facts"][1]
    assert run["same"] and all(run["same"].values())
    (hollow, kept, held), (whole, *_) = run["begun"]
    assert (hollow, whole) == ("True", "False")
    assert 0.5 <= float(kept) <= 0.51 and int(held) == 0  # parts are padded to the same size
