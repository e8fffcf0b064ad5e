"""Towers of pictures: frozen ones never change, and what cannot be built is a mistake of the configuration."""

import numpy as np
import pytest
import torch

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.image.towers._open_clip import OpenClipTower, _statistics, _untrained
from mmpt.tokenizers.image.towers._positions import resampled
from mmpt.tokenizers.image.towers.open_clip import OpenClip
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
    assert _statistics("ViT-B-16-SigLIP", tag, Bare) == ((0.5,) * 3, (0.5,) * 3)


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


def noise(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_positions_that_timm_resamples_nowhere_are_interpolated_as_its_others_are():
    """CaiT's table, by timm's own function for those of vision transformers; its class token is no patch."""
    import timm
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    tower = Timm(model="cait_xxs24_224", pretrained=False, patches_only=True).build(96)
    torch.manual_seed(0)
    model = timm.create_model("cait_xxs24_224", num_classes=0)
    wanted = resample_abs_pos_embed(model.pos_embed, [6, 6], num_prefix_tokens=0)
    assert torch.allclose(tower.model.pos_embed, wanted, atol=1e-6)
    assert tower(noise(96)).shape == (2, 36, 192)
    assert [state.shape for state in tower.layer_states(noise(96), [0, 3])] == [(2, 192)] * 2


def test_tables_of_positions_in_every_layout_become_those_of_another_side():
    """A table that is a plane over the picture stays one, whatever its layout; what stands before the patches stays as it is."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    plane = torch.stack([2 * y - 3, x + 1], dim=-1)  # [16, 16, 2]
    wanted = plane.unflatten(0, (8, 2)).unflatten(2, (8, 2)).mean(dim=(1, 3))  # each position of 8 x 8 in the middle of four
    prefix = torch.tensor([[[7.0, 9.0]]])
    layouts = {
        "a.pos_embed": (plane[None], wanted[None]),
        "b.pos_embed": (plane.permute(2, 0, 1)[None], wanted.permute(2, 0, 1)[None]),
        "c.pos_embed": (
            torch.cat([prefix, plane.reshape(1, 256, 2)], dim=1),
            torch.cat([prefix, wanted.reshape(1, 64, 2)], dim=1),
        ),
        "d.pos_embed": (plane.reshape(1, 1, 256, 2).repeat(1, 3, 1, 1), wanted.reshape(1, 1, 64, 2).repeat(1, 3, 1, 1)),
    }
    found = resampled({name: old for name, (old, _) in layouts.items()}, {name: new for name, (_, new) in layouts.items()})
    inner = {"a.pos_embed": (slice(None), slice(3, 5), slice(3, 5)), "b.pos_embed": (..., slice(3, 5), slice(3, 5))}
    for name, (_, new) in layouts.items():
        place = inner.get(name, (..., [27, 28, 35, 36], slice(None)) if name[0] == "d" else (slice(None), [0, 28, 29, 36, 37]))
        assert found[name].shape == new.shape
        torch.testing.assert_close(found[name][place], new[place], rtol=0, atol=1e-4)  # away from the border
    with pytest.raises(ValueError, match="rel_pos.table is a table .* which cannot be interpolated"):
        resampled({"rel_pos.table": torch.zeros(169, 2)}, {"rel_pos.table": torch.zeros(25, 2)})


@pytest.mark.parametrize(
    "name, why", [("levit_128s", "cannot be interpolated"), ("coat_tiny", "several maps"), ("pit_ti_224", "class token alone")]
)
def test_what_a_timm_tower_cannot_be_used_for_is_told(name, why):
    with pytest.raises(ConfigError, match=why):
        Timm(model=name, pretrained=False).build(96)


@pytest.mark.parametrize("name", ["RN50", "MobileCLIP-S1", "coca_ViT-B-32", "ViT-S-32-alt"])
def test_image_sides_of_open_clip_give_what_the_library_gives(name, tmp_path):
    """Features and embeddings at another side, against the whole model of open_clip with the same weights."""
    import open_clip

    torch.manual_seed(0)
    side = 128
    whole = open_clip.create_model(name, force_image_size=side).eval()
    tower = OpenClip(model=name, pretrained=None).build(side)
    assert set(tower.model.state_dict()) == set(whole.visual.state_dict())
    tower.model.load_state_dict(whole.visual.state_dict())
    pixels, seen = noise(side), []
    trunk = getattr(whole.visual, "trunk", None)
    last = whole.visual.layer4 if name == "RN50" else (trunk.final_conv if trunk is not None else whole.visual.transformer)
    last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        wanted = whole.encode_image(tower.normalized(pixels), normalize=False)
    (features,) = seen
    if features.ndim == 4:
        features = features.flatten(2).transpose(1, 2)
    elif "coca" not in name:  # where patches are pooled by attention, the last norm is of the pool
        features = whole.visual.ln_post(features)
    torch.testing.assert_close(tower(pixels), features[:, -tower(pixels).shape[1] :], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tower.embed(pixels), wanted, rtol=1e-5, atol=1e-5)
    assert all(state.shape[0] == 2 and state.ndim == 2 for state in tower.layer_states(pixels, [0, 1]))


def test_a_saved_tower_of_open_clip_asks_the_hub_for_no_text_side(monkeypatch):
    """A model whose text side is a published XLM-RoBERTa: its image side alone is built where the weights come from a folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tower = OpenClip(model="xlm-roberta-base-ViT-B-32", pretrained="laion5b_s13b_b90k").build(64, pretrained=False)
    assert isinstance(tower, OpenClipTower) and tower(noise(64)).shape == (2, 4, 768) and tower.embedding_width == 512
    assert not any("text" in name for name, _ in tower.named_parameters()) and _untrained("ViT-S-32-alt", 64) is not None
