"""Training with parts of the decoder replaced or added to. The scenarios run in decoder_ranks.py."""

import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from thorough import thorough

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("decoder_ranks.py", tmp_path_factory.mktemp("decoder"))


def resumed(run) -> None:
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["facts"][0] == run["facts"][1] and len(run["facts"][0]) == 6
    assert run["same"] and all(run["same"].values())


@pytest.mark.parametrize("stage", [*thorough(0), 3])
def test_sparse_layers_resume_with_the_same_bits_and_open_as_plain_matrices(results, stage):
    run = results[f"sparse-{stage}"]
    resumed(run)
    assert "linear.safetensors" in run["same"] and run["facts"][0][-1][1] < run["facts"][0][0][1]
    assert run["layers"] == ["Linear", "SparseLowRank"] and run["difference"] <= 1e-5


def test_sparse_layers_go_on_in_the_next_stage_and_are_plain_for_finetuning(results):
    run = results["sparse-stages"]
    assert run["codes"] == [[0], [0]] and run["support"] and run["learned"]
    assert "adapter" in run["files"] and "linear.safetensors" not in run["files"]


@pytest.mark.parametrize("name", ["ia3-0", "vera-3", "nf4-2", *thorough("nf4-0", "vera-1", "loha-3")])
def test_other_adapters_than_lora_resume_with_the_same_bits(results, name):
    run = results[name]
    resumed(run)
    assert "adapter/adapter_model.safetensors" in run["same"] and run["moved"] > 1e-4


def test_moments_of_eight_bits_resume_with_the_same_bits(results):
    run = results["adamw8bit"]
    resumed(run)
    with safe_open(Path(run["checkpoint"]) / "training" / "optimizer-00001-of-00002.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys() if "_codes/" in name} == {"U8"}  # noqa: SIM118


def test_named_kernels_train_alike_and_those_that_cannot_run_end_the_run(results):
    run = results["kernels"]
    assert run["codes"] == [[0], [0]] and run["refused"] == [2]
    for plain, fused in zip(*run["facts"], strict=True):
        assert fused[1] == pytest.approx(plain[1], abs=2e-5)


@pytest.mark.parametrize(("kind", "stage"), [("layers", 0), ("inner", 0), *thorough(("layers", 3)), ("inner", 3)])
def test_pictures_enter_a_frozen_decoder_in_other_ways_and_resume_with_the_same_bits(results, kind, stage):
    run = results[f"{kind}-{stage}"]
    resumed(run)
    assert "features/image/connector.safetensors" in run["same"]
    for found, wanted in zip(run["facts"][0], results[f"{kind}-0"]["facts"][0], strict=True):
        assert found[1] == pytest.approx(wanted[1], abs=2e-5)
