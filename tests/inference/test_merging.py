"""What has been learned, added to the base it was learned on: against sums of the tensors by hand."""

from pathlib import Path

import pytest
import torch

from mmpt.cli import main
from mmpt.errors import CheckpointError, ConfigError
from mmpt.inference.load import load
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.loading import load_model
from mmpt.model.merges.dare_ties import DareTies
from mmpt.model.merges.task_arithmetic import TaskArithmetic
from mmpt.model.soup import merged

from .tiny import BACKBONE, write_checkpoint

TABLE = "model.embed_tokens.weight"
MATRIX = "model.layers.0.mlp.up_proj.weight"
SUM = TaskArithmetic()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return find_checkpoint(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def published(run: Path, folder: Path, seed: int, padding: int = 0, **changes) -> Path:
    """A text model of the same shape, without the rows of the codes, its table padded as published ones are."""
    rows = load_model(run)[1].text_size + padding
    build_backbone(BackboneConfig(config={**BACKBONE, **changes}), rows, seed).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_half_of_what_was_learned_stands_between_base_and_tuned_and_new_rows_are_whole(run, tmp_path):
    base = published(run, tmp_path / "base", seed=7, padding=5)
    start, tuned = weights(base), load_model(run)[0].state_dict()
    model, vocabulary = merged(base, [run], SUM, [0.5])
    found, text = model.state_dict(), vocabulary.text_size
    assert torch.allclose(found[MATRIX], (start[MATRIX] + tuned[MATRIX]) / 2, atol=1e-6)
    assert torch.allclose(found[TABLE][:text], (start[TABLE][:text] + tuned[TABLE][:text]) / 2, atol=1e-6)
    assert torch.equal(found[TABLE][text:], tuned[TABLE][text:])
    assert torch.equal(merged(base, [run], SUM, [0.0])[0].state_dict()[MATRIX], start[MATRIX])
    assert torch.allclose(merged(base, [run], SUM)[0].state_dict()[MATRIX], tuned[MATRIX], atol=1e-6)


def test_a_published_model_adds_what_it_learned_on_the_same_base(run, tmp_path):
    base, instruct = published(run, tmp_path / "base", seed=7), published(run, tmp_path / "instruct", seed=8)
    model, vocabulary = merged(base, [instruct, run], SUM, [2.0, -1.0])
    start, other, tuned = weights(base), weights(instruct), load_model(run)[0].state_dict()
    found = model.state_dict()
    assert torch.allclose(
        found[MATRIX], start[MATRIX] + 2 * (other[MATRIX] - start[MATRIX]) - (tuned[MATRIX] - start[MATRIX]), atol=1e-5
    )
    assert torch.equal(found[TABLE][vocabulary.text_size :], tuned[TABLE][vocabulary.text_size :])


def test_what_does_not_fit_is_refused(run, tmp_path):
    base = published(run, tmp_path / "base", seed=7)
    with pytest.raises(ConfigError, match="1 models and weights"):
        merged(base, [run], SUM, [1.0, 2.0])
    with pytest.raises(ConfigError, match="expected a checkpoint among them"):
        merged(base, [base], SUM)
    with pytest.raises(CheckpointError, match="another shape"):
        merged(published(run, tmp_path / "small", seed=7, num_hidden_layers=1), [run], SUM)


def test_the_command_leaves_a_checkpoint_that_answers(run, tmp_path, monkeypatch, capsys):
    base = published(run, tmp_path / "base", seed=7)
    arguments = ["mmpt", "soup", run, "--base", base, "--weights", 0.5, "--out", tmp_path / "made"]
    monkeypatch.setattr("sys.argv", [str(one) for one in arguments])
    main()
    assert f"on {base}" in capsys.readouterr().out
    assert load(tmp_path / "made").answer([()], max_new_tokens=3)
    found = load_model(tmp_path / "made")[0].state_dict()[MATRIX]
    assert torch.allclose(found, merged(base, [run], SUM, [0.5])[0].state_dict()[MATRIX])


def test_an_average_on_a_base_is_the_mean_of_the_models_themselves(run, tmp_path, monkeypatch):
    base, instruct = published(run, tmp_path / "base", seed=7), published(run, tmp_path / "instruct", seed=8)
    call = ["mmpt", "soup", run, instruct, "--base", base, "--method", "average", "--weights", 3, 1, "--out", tmp_path / "made"]
    monkeypatch.setattr("sys.argv", [str(one) for one in call])
    main()
    found = load_model(tmp_path / "made")[0].state_dict()[MATRIX]
    assert torch.allclose(found, (3 * load_model(run)[0].state_dict()[MATRIX] + weights(instruct)[MATRIX]) / 4, atol=1e-6)


def test_what_is_dropped_at_random_is_a_function_of_the_seed(run, tmp_path):
    base = published(run, tmp_path / "base", seed=7)
    state = torch.random.get_rng_state()
    one, same, other = (merged(base, [run], DareTies(density=0.5), seed=seed)[0].state_dict()[MATRIX] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--method", "ties"], "goes with --base"),
        (["--method", "tise", "--base", "."], "did you mean ties"),
        (["--method", "{kind: ties, density: 2}", "--base", "."], "method.density"),
        (["--method", "{", "--base", "."], "not valid YAML"),
    ],
)
def test_a_method_that_cannot_be_is_told(run, tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.setattr("sys.argv", ["mmpt", "soup", str(run), *arguments, "--out", str(tmp_path / "made")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and match in capsys.readouterr().err
