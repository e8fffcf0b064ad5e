"""Training of a tokenizer: resumed to the bit, the same on any number of ranks, a codebook that stays exact. The scenarios run in
fit_ranks.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("fit_ranks.py", tmp_path_factory.mktemp("fit"))


def test_killed_while_saving_or_told_to_stop_and_started_again_has_the_same_bits(results):
    run = results["resume"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]] and run["left"] == ["step-00000004"]
    assert run["told"] == [[15, 15], "step-00000006", [0, 0]]
    assert run["same"] and [line["step"] for line in run["lines"][0]] == [3, 6, 9, 12]
    # Lines average over the steps since the last; those of a run that began in between have fewer.
    assert run["lines"][0][-1] == run["lines"][1][-1] == run["lines"][2][-1]


def test_a_fixed_whisper_teaches_as_it_was_also_what_is_heard_anew_in_every_step(results):
    kept, anew = results["lessons"]
    assert kept == anew


def test_ranks_share_a_batch_and_learn_the_same(results):
    run = results["sizes"]
    for size in "24":
        for found, wanted in zip(run["lines"][size], run["lines"]["1"], strict=True):
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert max(run["codebook"]) < 1e-5
    assert run["restarts"][0] == run["restarts"][1] == run["restarts"][2] > 0


def test_ranks_find_the_same_axes_for_fsq_and_spread_alike(results):
    for found, wanted in zip(results["fsq-2"], results["fsq-1"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert results["fsq-1"][-1]["commitment"] > 0 and results["fsq-1"][-1]["used"] > 0.25


def test_each_line_tells_the_health_of_the_codebook(results):
    for line in results["sizes"]["lines"]["2"][1:]:
        assert {
            "perplexity",
            "entropy",
            "used",
            "restarts",
            "learning_rate",
            "gradient_norm",
            "reading",
            "ctc",
            "mel",
        } <= line.keys()
        assert 1 <= line["perplexity"] <= 16 and 0 < line["used"] <= 1
        assert line["loss"] == pytest.approx(line["reading"] + 0.5 * line["ctc"] + line["mel"] + line["commitment"], rel=1e-4)


def test_a_codebook_stays_float32_under_a_bfloat16_engine(results):
    assert results["bf16"] == {"codes": [0, 0], "dtypes": ["torch.float32", "torch.float32", "torch.bfloat16"]}


def test_a_batch_that_does_not_go_into_the_ranks_is_refused(results):
    assert results["uneven"] == [2, 2, 2]
    assert "batch_size is 8, expected a multiple of the 3 ranks" in results.errors
