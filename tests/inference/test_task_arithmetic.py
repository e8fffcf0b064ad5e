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
from mmpt.model.soup import task_arithmetic

from .tiny import BACKBONE, write_checkpoint

TABLE = "model.embed_tokens.weight"
MATRIX = "model.layers.0.mlp.up_proj.weight"


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
    model, vocabulary = task_arithmetic(base, [run], [0.5])
    found, text = model.state_dict(), vocabulary.text_size
    assert torch.allclose(found[MATRIX], (start[MATRIX] + tuned[MATRIX]) / 2, atol=1e-6)
    assert torch.allclose(found[TABLE][:text], (start[TABLE][:text] + tuned[TABLE][:text]) / 2, atol=1e-6)
    assert torch.equal(found[TABLE][text:], tuned[TABLE][text:])
    assert torch.equal(task_arithmetic(base, [run], [0.0])[0].state_dict()[MATRIX], start[MATRIX])
    assert torch.allclose(task_arithmetic(base, [run])[0].state_dict()[MATRIX], tuned[MATRIX], atol=1e-6)


def test_a_published_model_adds_what_it_learned_on_the_same_base(run, tmp_path):
    base, instruct = published(run, tmp_path / "base", seed=7), published(run, tmp_path / "instruct", seed=8)
    model, vocabulary = task_arithmetic(base, [instruct, run], [2.0, -1.0])
    start, other, tuned = weights(base), weights(instruct), load_model(run)[0].state_dict()
    found = model.state_dict()
    assert torch.allclose(
        found[MATRIX], start[MATRIX] + 2 * (other[MATRIX] - start[MATRIX]) - (tuned[MATRIX] - start[MATRIX]), atol=1e-5
    )
    assert torch.equal(found[TABLE][vocabulary.text_size :], tuned[TABLE][vocabulary.text_size :])


def test_what_does_not_fit_is_refused(run, tmp_path):
    base = published(run, tmp_path / "base", seed=7)
    with pytest.raises(ConfigError, match="1 models and scales"):
        task_arithmetic(base, [run], [1.0, 2.0])
    with pytest.raises(ConfigError, match="expected a checkpoint among them"):
        task_arithmetic(base, [base])
    with pytest.raises(CheckpointError, match="another shape"):
        task_arithmetic(published(run, tmp_path / "small", seed=7, num_hidden_layers=1), [run])


def test_the_command_leaves_a_checkpoint_that_answers(run, tmp_path, monkeypatch, capsys):
    base = published(run, tmp_path / "base", seed=7)
    arguments = ["mmpt", "soup", run, "--base", base, "--weights", 0.5, "--out", tmp_path / "made"]
    monkeypatch.setattr("sys.argv", [str(one) for one in arguments])
    main()
    assert f"on {base}" in capsys.readouterr().out
    assert load(tmp_path / "made").answer([()], max_new_tokens=3)
    found = load_model(tmp_path / "made")[0].state_dict()[MATRIX]
    assert torch.allclose(found, task_arithmetic(base, [run], [0.5])[0].state_dict()[MATRIX])
