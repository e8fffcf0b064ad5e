"""Towers of transformers at their own side and at others, with the library's own interpolation of positions."""

import shutil

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.config import FeatureInputConfig
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.tokenizers.image.towers.timm import Timm
from mmpt.tokenizers.image.towers.transformers import Transformers

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
DECODER = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
           "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
MODELS = {
    "clip": (CLIPVisionModel, CLIPVisionConfig(intermediate_size=48, **SIZES)),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(intermediate_size=48, **SIZES)),
    "dinov2": (Dinov2Model, Dinov2Config(mlp_ratio=2, **SIZES)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for name, (kind, config) in MODELS.items():
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp(name)
        model = kind(config)
        with torch.no_grad():  # positions that matter, as learned ones do
            for key, value in model.named_parameters():
                if "position_embedding" in key:
                    value.normal_()
        model.save_pretrained(found[name])
    CLIPImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]).save_pretrained(found["clip"])
    return found


def pixels(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def own(name, folder, side: int, **options):
    """What the library makes of the same pixels."""
    mean, std = ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]) if name == "clip" else ([0.5] * 3, [0.5] * 3)
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    with torch.no_grad():
        return MODELS[name][0].from_pretrained(folder).eval()(((pixels(side) + 1) / 2 - mean) / std, **options)


@pytest.mark.parametrize("name", MODELS)
def test_at_its_own_side_features_are_the_librarys(folders, name):
    tower = Transformers(model=str(folders[name])).build(32)
    whole = own(name, folders[name], 32).last_hidden_state
    found = tower(pixels(32))
    assert found.shape == (2, 16, tower.width) and torch.equal(found, whole[:, -16:])
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    every = Transformers(model=str(folders[name]), patches_only=False).build(32)(pixels(32))
    assert torch.equal(every, whole) and every.shape[1] == (16 if name == "siglip" else 17)
    states = own(name, folders[name], 32, output_hidden_states=True).hidden_states
    assert torch.equal(Transformers(model=str(folders[name]), layer=-2).build(32)(pixels(32)), states[-2][:, -16:])
    assert len(tower.layer_states(pixels(32), [0, 2])) == 2


@pytest.mark.parametrize("name", MODELS)
def test_at_another_side_positions_are_interpolated(folders, name):
    tower = Transformers(model=str(folders[name])).build(48)
    options = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    assert torch.equal(tower(pixels(48)), own(name, folders[name], 48, **options).last_hidden_state[:, -36:])
    # By hand: the grid of 4 x 4 positions as a picture of as many channels, enlarged to 6 x 6, is a model of that side.
    model = MODELS[name][0].from_pretrained(folders[name])
    state = model.state_dict()
    (key,) = (key for key in state if "position_embedding" in key and "ids" not in key)
    table = state[key].reshape(-1, 32)
    grid = table[-16:].T.reshape(1, 32, 4, 4)
    grid = F.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    state[key] = torch.cat([table[:-16], grid.reshape(32, 36).T]).view(*state[key].shape[:-2], -1, 32)
    config = type(model.config).from_dict({**model.config.to_dict(), "image_size": 48})
    larger = MODELS[name][0](config).eval()
    larger.load_state_dict(
        {
            **{k: v for k, v in larger.state_dict().items() if "position_ids" in k},
            **{k: v for k, v in state.items() if "position_ids" not in k},
        }
    )
    with torch.no_grad():
        wanted = larger(tower.normalized(pixels(48))).last_hidden_state[:, -36:]
    assert torch.allclose(tower(pixels(48)), wanted, atol=1e-5)


def test_dinov2_of_timm_takes_other_sides_without_its_class_token():
    import timm
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    tower = Timm(model="vit_small_patch14_reg4_dinov2", pretrained=False, patches_only=True).build(56)
    torch.manual_seed(0)
    original = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, num_classes=0)
    wanted = resample_abs_pos_embed(original.pos_embed, (4, 4), num_prefix_tokens=0)
    assert torch.allclose(tower.model.pos_embed, wanted, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(tower(pixels(56)), tower.model.forward_features(tower.normalized(pixels(56)))[:, 5:])
    assert tower(pixels(56)).shape == (2, 16, 384)


def test_what_it_cannot_be_used_with_is_told(folders, tmp_path):
    with pytest.raises(ConfigError, match="patches have 8 pixels, which do not divide that side"):
        Transformers(model=str(folders["clip"])).build(44)
    with pytest.raises(ConfigError, match="cannot be used with side 32"):
        Transformers(model=str(tmp_path)).build(32)


def test_saved_features_need_the_published_model_no_more(folders, tmp_path):
    here = tmp_path / "clip"
    shutil.copytree(folders["clip"], here)
    content = {"encoder": {"side": 48, "tower": {"kind": "transformers", "model": str(here), "layer": -2}}, "connector": "linear"}
    decoder = build_backbone(BackboneConfig(config=DECODER), 30, seed=0)
    inputs = FeatureInputs({"image": parse_config(content, FeatureInputConfig, "test")}, decoder)
    inputs.save_encoders(tmp_path / "features")
    inputs.save_connectors(tmp_path / "features")
    shutil.rmtree(here)
    again = FeatureInputs.load(tmp_path / "features", decoder)
    assert again.rows == {"image": 36}
    assert torch.equal(again.encode("image", pixels(48)), inputs.encode("image", pixels(48)))
