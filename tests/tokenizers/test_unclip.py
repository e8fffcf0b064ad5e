"""An unCLIP pipeline of diffusers at toy size: loaded from a folder, seeded, conditioned on the embedding."""

import json

import numpy as np
import pytest
import torch

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.image.unclip import UnclipDecoder

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    place = tmp_path_factory.mktemp("unclip")
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{one}</w>" for one in "abcdefghijklmnopqrstuvwxyz")]
    words = {word: i for i, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (place / "vocab.json").write_text(json.dumps(words))
    (place / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=1,
        bos_token_id=52, eos_token_id=53, pad_token_id=53, projection_dim=32,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, projection_dim=32, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8,
        intermediate_size=37,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(32, 64), attention_head_dim=(2, 4),
        class_embed_type="projection", projection_class_embeddings_input_dim=64, cross_attention_dim=32, layers_per_block=1,
        use_linear_projection=True,
    )  # fmt: skip
    pipeline = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
        image_encoder=CLIPVisionModelWithProjection(vision),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=32),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"), model_max_length=77),
        text_encoder=CLIPTextModel(text),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction", set_alpha_to_one=False),
        vae=diffusers.AutoencoderKL(block_out_channels=(32,), latent_channels=4, norm_num_groups=32),
    )
    pipeline.save_pretrained(place / "pipeline")
    return place / "pipeline"


def test_pictures_follow_embedding_and_seed(folder):
    decoder = UnclipDecoder(folder)
    rows = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
    first, second = (np.asarray(picture) for picture in decoder.draw(rows, steps=2))
    alone = np.asarray(decoder.draw(rows[1:], steps=2)[0])
    assert decoder.width == 32 and first.shape[2] == 3 and first.dtype == np.uint8
    assert np.array_equal(second, alone) and not np.array_equal(first, second)
    assert not np.array_equal(np.asarray(decoder.draw(rows[1:], seed=1, steps=2)[0]), alone)


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"expected finite \[pictures, 32\]"):
        UnclipDecoder(folder).draw(np.zeros((1, 7)))
    with pytest.raises(ConfigError, match="no unCLIP pipeline can be loaded"):
        UnclipDecoder(tmp_path)
