"""Training on pictures and sounds as continuous features. The scenarios run in feature_ranks.py."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from thorough import thorough

from mmpt.data.loading.packing import pack
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import hidden_states, packed_logits
from mmpt.model.loading import load_model

sys.path.insert(0, str(Path(__file__).parent))
import feature_ranks  # noqa: E402
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("feature_ranks.py", tmp_path_factory.mktemp("features"))


@pytest.mark.parametrize("stage", [0, *thorough(1), 3])
def test_ranks_with_and_without_media_train_alike_and_resume_with_the_same_bits(results, stage):
    """Most packs are text alone, so that in most steps a rank has no picture, no sound or neither."""
    run = results[f"mixed-{stage}"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["facts"][0] == run["facts"][1] and len(run["facts"][0]) == 6
    assert len(run["same"]) == 8 and all(run["same"].values())
    for found, wanted in zip(run["facts"][0], results["mixed-0"]["facts"][0], strict=True):
        assert found[1] == pytest.approx(
            wanted[1], abs=2e-5
        )  # rounding grows to 2.5e-6; connectors that do not learn differ by 2e-4


@pytest.mark.parametrize("stage", [*thorough(1), 2, 3])
def test_encoders_learn_where_they_are_asked_to_and_resume_with_the_same_bits(results, stage):
    run, frozen = results[f"learning-{stage}"], results["mixed-0"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["facts"][0] == run["facts"][1]
    assert len(run["same"]) == 8 and all(run["same"].values())
    for found, wanted in zip(run["facts"][0], results["learning-0"]["facts"][0], strict=True):
        assert found[1] == pytest.approx(wanted[1], abs=2e-5)
    for kind in ("image", "speech"):
        name = f"features/{kind}/encoder.safetensors"
        resting, learned = (load_file(Path(one["checkpoint"]) / name) for one in (frozen, run))
        assert resting.keys() == learned.keys()
        moved = {key for key, value in resting.items() if not torch.equal(value, learned[key])}
        assert len(moved) > 5 and not any("embed_positions" in key for key in moved)
        # An Adam update is at most about the rate: six steps, of a tenth of it each.
        assert max(float((resting[key] - learned[key]).abs().max()) for key in moved) < 6 * 0.1 * 0.02 * 1.1
    model, _ = load_model(Path(run["checkpoint"]))
    inputs = FeatureInputs.load(Path(run["checkpoint"]) / "features", model)
    pixels = inputs.read(feature_ranks.document("d", "image", feature_ranks.picture("red", 1), 5).media[0])
    rest = FeatureInputs.load(Path(frozen["checkpoint"]) / "features", model)
    assert not torch.equal(inputs.encode("image", pixels), rest.encode("image", pixels))


def test_gated_cross_attention_learns_under_zero_3_as_it_does_alone(results):
    plain, cut = results["crossed-0"], results["crossed-3"]
    assert plain["codes"] == cut["codes"] == [0, 0]
    for found, wanted in zip(cut["facts"], plain["facts"], strict=True):
        assert found[1] == pytest.approx(wanted[1], abs=2e-5)
    learned = load_file(Path(cut["checkpoint"]) / "features" / "image" / "connector.safetensors")
    assert float(learned["inside.layers.0.gates"].abs().min()) > 0


def test_connectors_learn_and_go_on_in_later_stages_and_runs(results):
    run = results["colours"]
    assert run["codes"] == [[0], [0]]
    first, second, third = run["facts"]
    assert first[0][1] > 3.0 and first[-1][1] < 0.4  # guessing among four colours costs 1.39
    assert second[0][1] < 0.4 and third[0][1] < 0.4  # begun where the one before ended
    backbones, connectors = (
        [load_file(Path(path) / name) for path in run["saved"]]
        for name in ("backbone/model.safetensors", "features/image/connector.safetensors")
    )
    assert all(torch.equal(value, backbones[2][name]) for name, value in backbones[1].items())
    for before, after in zip(connectors[:-1], connectors[1:], strict=True):
        assert any(not torch.equal(value, after[name]) for name, value in before.items())
    encoders = [Path(path) / "features" / "image" / "encoder.safetensors" for path in run["saved"]]
    assert encoders[0].read_bytes() == encoders[2].read_bytes() and encoders[0].stat().st_nlink > 1


def test_pictures_of_one_to_three_tiles_are_trained_on(results):
    run = results["tiled"]
    assert run["codes"] == [0, 0] and len(run["facts"]) == 6
    assert run["facts"][-1][1] < run["facts"][0][1]


def test_a_later_stage_has_more_rows_and_the_same_weights(results):
    run = results["more-rows"]
    assert run["codes"] == [0, 0] and [len(facts) for facts in run["facts"]] == [3, 3]
    few, many = (Path(path) / "features" / "image" for path in run["saved"])
    before, after = (load_file(folder / "connector.safetensors") for folder in (few, many))
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    model, _ = load_model(Path(run["saved"][1]))
    assert FeatureInputs.load(many.parent, model).rows == {"image": 4}
    assert FeatureInputs.load(few.parent, model).rows == {"image": 1}


def test_a_checkpoint_reads_pictures_again(results):
    checkpoint = Path(results["colours"]["saved"][-1])
    model, _ = load_model(checkpoint)
    inputs = FeatureInputs.load(checkpoint / "features", model)
    documents = [
        feature_ranks.document(f"new-{colour}", "image", feature_ranks.picture(colour, 1000 + number), 0)
        for number, colour in enumerate(feature_ranks.COLOURS)
    ]
    batch = pack(documents, [[inputs.read(document.media[0])] for document in documents])
    with torch.no_grad():
        placed, zero = inputs(batch.features, batch.cu_seqlens)
        logits = packed_logits(model, batch.input_ids, batch.position_ids, batch.cu_seqlens, features=placed)[0]
        alone = hidden_states(model, batch.input_ids, batch.position_ids, batch.cu_seqlens)
    assert float(zero) == 0.0 and alone.shape[1] == len(logits)
    places = batch.cu_seqlens[:-1] + len(documents[0].ids) - 3  # of the closing mark, which predicts the word
    assert logits[places].argmax(dim=-1).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("stage", [0, *thorough(1), 3])
def test_features_of_nan_stop_the_run_or_are_skipped_and_counted(results, stage):
    stopped, skipped = results[f"spoiled-{stage}-0"], results[f"spoiled-{stage}-1"]
    assert stopped["codes"] == [2, 2] and stopped["steps"] == [1] and not stopped["last"]
    assert "step 2: the loss is nan, rank 1: documents picture-" in stopped["said"]
    assert skipped["codes"] == [0, 0] and skipped["steps"] == [1, 3] and skipped["last"]
    assert [line["step"] for line in skipped["skipped"]] == [2]
    assert "rank 1: documents picture-" in skipped["skipped"][0]["why"] and "rank 0" not in skipped["skipped"][0]["why"]


def test_a_picture_that_cannot_be_decoded_is_left_out(results):
    assert results["undecodable"] == {"codes": [0, 0], "steps": 6}
