"""Distances of pictures as networks see them, against their definitions."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.perceptual.lpips import Lpips
from mmpt.tokenizers.image.perceptual.tower import Tower
from mmpt.tokenizers.image.stage_config import DrawConfig, JointConfig
from mmpt.tokenizers.image.stages import DrawStage, JointStage

from .tiny_stages import batch, tokenizer


def _two(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, side, side, generator=draw) * 2 - 1, torch.rand(2, 3, side, side, generator=draw) * 2 - 1


def test_lpips_is_its_definition_over_a_file_of_torchvisions_weights(tmp_path):
    """Zhang et al. 2018, eq. 1, in float64, from the classifier's features behind each of its five pools' inputs."""
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    classifier = torchvision.models.alexnet(weights=None).eval()
    save_file(classifier.state_dict(), tmp_path / "alexnet.safetensors")
    model = tokenizer()
    module = Lpips(net="alex", weights=tmp_path / "alexnet.safetensors").build(model.tower)
    one, other = _two()
    # ImageNet's mean and deviation, for values in −1 … 1; to three digits as the package has them.
    mean, std = torch.tensor([-0.030, -0.088, -0.188]).double(), torch.tensor([0.458, 0.448, 0.450]).double()
    linear = torch.load(f"{lpips.__path__[0]}/weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    wanted = torch.zeros(2).double()
    x, y = (((p.double() - mean[:, None, None]) / std[:, None, None]) for p in (one, other))
    for place, layer in enumerate(classifier.double().features):
        x, y = layer(x.clone()), layer(y.clone())
        if place in (1, 4, 7, 9, 11):
            apart = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square()
            weights = linear[f"lin{(1, 4, 7, 9, 11).index(place)}.model.1.weight"].double()
            wanted += (apart * weights).sum(dim=1).mean(dim=(1, 2)).detach()
    torch.testing.assert_close(module(one, other).double(), wanted, rtol=1e-4, atol=1e-7)
    assert not any(weight.requires_grad for weight in module.parameters())


def test_lpips_says_which_weights_cannot_be_loaded(tmp_path):
    pytest.importorskip("lpips")
    with pytest.raises(ConfigError, match="nothing.safetensors: no weights of vgg16"):
        Lpips(weights=tmp_path / "nothing.safetensors").build(tokenizer().tower)
    save_file({"wrong": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ConfigError, match="wrong.safetensors: no weights of alexnet"):
        Lpips(net="alex", weights=tmp_path / "wrong.safetensors").build(tokenizer().tower)


def test_the_towers_features_are_compared_at_one_length():
    model = tokenizer()
    one, other = _two(16)
    module = Tower(layers=("stem.1", "norm")).build(model.tower)
    found = module(one, other)
    stem = [F.normalize(model.tower.stem[:2](x), dim=1) for x in (one, other)]
    out = [F.normalize(model.tower(x), dim=-1) for x in (one, other)]
    wanted = [(stem[0] - stem[1]).square().sum(dim=1).mean(dim=(1, 2)), (out[0] - out[1]).square().sum(dim=2).mean(dim=1)]
    torch.testing.assert_close(found, torch.stack(wanted).mean(dim=0))
    with pytest.raises(ConfigError, match="the tower has no 'nrm', near: norm"):
        Tower(layers=("nrm",)).build(model.tower)


def test_by_default_the_stem_and_the_blocks_are():
    assert Tower().build(tokenizer().tower).layers == ("stem.1", "blocks.0")


def test_the_tower_does_not_learn_from_being_looked_through():
    model = tokenizer()
    stage = JointStage(model, JointConfig(perceptual=Tower(weight=3.0))).train()
    term = stage.loss(batch(), 0.5)["perceptual"]
    assert term.weight == 3.0
    drawn = model.decoder.coarse(torch.randn(2, 5, 6))
    away = Tower().build(model.tower)(drawn, batch(2).pixels).mean()
    to_tower = torch.autograd.grad(away, list(model.tower.parameters()), retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in to_tower)
    assert torch.autograd.grad(away, model.decoder.coarse.last)[0].abs().max() > 0


def test_without_it_a_stage_computes_what_it_did():
    found = []
    for settings in (DrawConfig(), DrawConfig(perceptual=Tower(weight=0.0))):
        model = tokenizer()
        model.quantize(model.states(batch().pixels)[1])
        stage = DrawStage(model, settings).train()
        torch.manual_seed(3)
        found.append(stage.loss(batch(), 0.5))
    assert set(found[1]) - set(found[0]) == {"perceptual"}
    assert all(torch.equal(found[0][name].total, found[1][name].total) for name in found[0])
