"""Drawing in the latents of a published VAE: a tiny `AutoencoderKL` of diffusers, loaded from a folder as a published one is."""

import numpy as np
import pytest
import torch

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.latents.vae import Vae
from mmpt.tokenizers.image.stage_config import AdversaryConfig, DrawConfig
from mmpt.tokenizers.image.stages import DrawStage, JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

from .tiny_image import Plan, config, image_batches, loss_of, pictures

SHAPE = {"channels": 4, "factor": 4}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    block = "DownEncoderBlock2D", "UpDecoderBlock2D"
    network = diffusers.AutoencoderKL(
        down_block_types=(block[0],) * 3, up_block_types=(block[1],) * 3, block_out_channels=(8, 8, 8), norm_num_groups=4,
        latent_channels=4, scaling_factor=0.5, shift_factor=0.25,
    )  # fmt: skip
    network.save_pretrained(folder)
    return folder, network.eval()


def decoder(folder, **changes) -> dict:
    latents = {"kind": "vae", "model": str(folder), **SHAPE}
    return {"patch": 1, "width": 32, "depth": 1, "heads": 4, "latents": latents, **changes}


def batches(model):
    return image_batches([ImageExample(p, f"picture {i % 7}") for i, p in enumerate(pictures(24))], model.config, Plan())


def test_latents_are_those_of_diffusers(vae):
    folder, network = vae
    loaded = Vae(model=str(folder), **SHAPE).load()
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        mean = network.encode(pixels).latent_dist.mean
        torch.testing.assert_close(loaded.encode(pixels), (mean - 0.25) * 0.5)
        torch.testing.assert_close(loaded.decode(loaded.encode(pixels)), network.decode(mean).sample)
    latents = loaded.encode(pixels).requires_grad_()
    loaded.decode(latents).sum().backward()
    assert latents.grad is not None and latents.grad.abs().max() > 0  # for what looks at the picture


@pytest.mark.parametrize("flow", [None, {"dim": 8, "blocks": 1, "patch": 2, "steps": 2}])
def test_the_decoder_learns_the_latents_and_draws_through_them(vae, tmp_path, flow):
    folder, network = vae
    torch.manual_seed(0)
    model = ImageTokenizer(config(decoder=decoder(folder, flow=flow)))
    batch = batches(model)
    with torch.no_grad():
        JointStage(model, JointConfig()).loss(batch(0), 0.9)
    stage = DrawStage(model, DrawConfig(beginnings=0.0, empty=0.0)).train()
    optimizer = torch.optim.AdamW([one for one in stage.parameters() if one.requires_grad], 3e-3)
    losses = []
    for _ in range(30):
        terms = stage.loss(batch(0), 0.5)
        loss = loss_of({"pixels": terms["pixels"]}) + (loss_of({"flow": terms["flow"]}) if flow else 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float((terms["pixels"].total / terms["pixels"].count).detach()))
    assert losses[-1] < 0.7 * losses[0]
    model.eval()
    codes = model.encode(pictures(3))
    drawn = np.stack([np.asarray(one) for one in model.decode(codes, guidance=0.0)])
    assert drawn.shape == (3, 16, 16, 3)
    if flow is None:
        with torch.no_grad():
            latents = model.decoder.coarse(model.quantizer.decode(torch.from_numpy(codes)))
            expected = network.decode(latents / 0.5 + 0.25).sample
        expected = ((expected + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(drawn - expected).max() <= 1
    model.save(tmp_path / "tokenizer")
    again = ImageTokenizer.load(tmp_path / "tokenizer")
    assert np.array_equal(np.stack([np.asarray(one) for one in again.decode(codes, guidance=0.0)]), drawn)
    assert set(again.state_dict()) == set(model.state_dict()) and not any("autoencoder" in name for name in model.state_dict())


def test_what_looks_at_the_picture_looks_through_the_autoencoder(vae):
    torch.manual_seed(0)
    model = ImageTokenizer(config(decoder=decoder(vae[0])))
    batch = batches(model)(0)
    with torch.no_grad():
        JointStage(model, JointConfig()).loss(batch, 0.9)
    adversary = AdversaryConfig(channels=8, layers=1, start=0.0)
    terms = DrawStage(model, DrawConfig(adversary=adversary)).train().loss(batch, 0.5)
    loss_of({"fooling": terms["fooling"]}).backward()
    assert model.decoder.coarse.last.grad.abs().max() > 0


def test_what_does_not_fit_is_told(vae, tmp_path):
    with pytest.raises(ConfigError, match="decoder.latents.factor: 8, expected 4, as"):
        Vae(model=str(vae[0])).load()
    with pytest.raises(ConfigError, match="no AutoencoderKL can be loaded"):
        Vae(model=str(tmp_path)).load()
    with pytest.raises(ConfigError, match="decoder.patch 3 does not divide the side of the latents, 4"):
        config(decoder=decoder(vae[0], patch=3))
    with pytest.raises(ConfigError, match="decoder.latents.factor 5 does not divide side 16"):
        config(decoder=decoder(vae[0], latents={"kind": "vae", "model": "a", "factor": 5}))
    assert parse_config(config().model_dump(), ImageTokenizerConfig, "x").decoder.latents is None
