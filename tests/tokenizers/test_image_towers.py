"""Towers of pictures: frozen ones never change, and what cannot be built is a mistake of the configuration."""

import numpy as np
import pytest
import torch

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.image.towers._open_clip import _statistics
from mmpt.tokenizers.image.towers.timm import Timm
from mmpt.tokenizers.image.towers.vit import Vit

from .tiny_image import EMA, config, loss_of, pictures, tokenizer


def test_a_frozen_tower_without_weights_is_a_mistake():
    with pytest.raises(ConfigError, match="pretrained: missing"):
        config(tower={"kind": "open_clip", "model": "ViT-S-32-alt"})


def test_towers_of_siglip_keep_their_own_normalisation_whatever_their_weights_come_from():
    import open_clip

    class Bare:
        image_mean, image_std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

    assert _statistics("ViT-B-16-SigLIP", None, Bare) == ((0.5,) * 3, (0.5,) * 3)
    assert _statistics("a model of one's own", "weights.pt", Bare) == (Bare.image_mean, Bare.image_std)
    tag = open_clip.list_pretrained_tags_by_model("ViT-B-16-SigLIP")[0]
    assert _statistics("ViT-B-16-SigLIP", tag, Bare) == (Bare.image_mean, Bare.image_std)  # open_clip has set them


def test_a_frozen_tower_of_timm_never_changes(tmp_path):
    model = tokenizer(EMA, steps=1, tower={"kind": "timm", "model": "test_vit", "pretrained": False}, side=160).train()
    assert not model.tower.model.training
    pixels = torch.rand(4, 3, 160, 160) * 2 - 1
    batch = ImageBatch(pixels, torch.ones(4, 2, dtype=torch.int64), torch.full((4, model.codes_per_image), -1))
    loss_of(JointStage(model, JointConfig()).loss(batch, 0.5)).backward()
    assert all(parameter.grad is None for parameter in model.tower.parameters())
    assert model.qformer.queries.grad.abs().sum() > 0
    model.save(tmp_path / "saved")
    assert np.array_equal(ImageTokenizer.load(tmp_path / "saved").encode(pictures(2)), model.encode(pictures(2)))


def test_a_tower_of_timm_takes_other_sides_as_timm_itself_does():
    """Against timm's resampling in each pass; a model with its own side keeps its table."""
    import timm

    tower = Timm(model="test_vit", pretrained=False).build(160)
    flexible = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    flexible.load_state_dict(tower.model.state_dict())
    smaller = Timm(model="test_vit", pretrained=False).build(96)
    fitted = timm.create_model("test_vit", num_classes=0)
    fitted.load_state_dict(tower.model.state_dict())
    fitted.set_input_size(img_size=96)
    smaller.model.load_state_dict(fitted.state_dict())
    for one in (tower, smaller):
        side = 160 if one is tower else 96
        pixels = torch.rand(2, 3, side, side) * 2 - 1
        with torch.no_grad():
            wanted = flexible.forward_features(tower.normalized(pixels))
        torch.testing.assert_close(one(pixels), wanted, rtol=1e-4, atol=1e-4)


def test_a_tower_from_scratch_halves_the_side_and_sees_patches_in_order():
    """Width and number of features, and that convolutions alone (depth 0) see no more than a patch and its neighbours."""
    torch.manual_seed(0)
    tower = Vit(patch=8, width=12, depth=0, heads=4).build(32)
    pixels = torch.randn(1, 3, 32, 32)
    changed = pixels.clone()
    changed[..., 8:16, 24:32] += torch.randn(3, 8, 8)
    moved = (tower(changed) - tower(pixels)).abs().amax(dim=-1)[0].unflatten(0, (4, 4)) > 1e-6
    assert tower(pixels).shape == (1, 16, 12) and tower.width == 12 and moved[1, 3]
    assert not moved[3].any() and not moved[:, :2].any()


def test_an_unknown_timm_tower_is_a_mistake_of_the_configuration():
    with pytest.raises(ConfigError, match="no_such_tower"):
        ImageTokenizer(config(tower={"kind": "timm", "model": "no_such_tower", "pretrained": False}))
