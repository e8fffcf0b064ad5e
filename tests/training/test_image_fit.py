"""SEED's stages on several ranks: negatives of all ranks, one codebook, resumed to the bit. The scenarios run in
image_ranks.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("image_ranks.py", tmp_path_factory.mktemp("image"))["everything"]


def test_two_ranks_learn_what_one_does(results):
    for stage in ("align", "quantize"):
        one, two = results["lines"][stage]
        for found, wanted in zip(two, one, strict=True):
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    # Sums over two ranks round differently, by how much depends on the processor (2.6e-5 here); codebooks of ranks that do not
    # share their counts are apart by more than a hundredth.
    assert results["apart"][results["codebook"]] < 2e-4


def test_stage_two_leaves_the_qformer_alone(results):
    assert results["moved"] == 0.0


def test_killed_in_stage_two_and_started_again_has_the_same_bits(results):
    assert results["codes"] == [[0], [0, 0], [-9, -9], [0, 0]] and results["same"]
