"""What draws the images that codes stand for: the tokenizer's decoder, and an unCLIP pipeline of diffusers at toy size, loaded
from a folder, seeded, conditioned on the embedding."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmpt.config import parse_config
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document
from mmpt.document import Image as ImagePart
from mmpt.errors import ConfigError, DataError
from mmpt.evaluation.metrics.image_tokenizer import evaluate_image_tokenizer
from mmpt.evaluation.metrics.picture_judge import psnr
from mmpt.inference.decoding import decode_with
from mmpt.media import decode_image, encode_png
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.renderers import chosen_renderer
from mmpt.tokenizers.image.renderers._unclip import UnclipDecoder
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.image.renderers.unclip import Unclip
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.vocabulary import Vocabulary

SCRIPT = Path(__file__).resolve().parent.parent.parent / "tokenizers" / "decode.py"
CODES = np.array([[1, 5, 0, 15], [3, 3, 9, 2]])


def tokenizer(dim: int = 32, **changes) -> ImageTokenizer:
    """Of random weights; the embedding that its codes predict has `dim` values."""
    torch.manual_seed(1)
    content = {
        "side": 16, "tower": {"patch": 8, "width": 16, "depth": 0, "heads": 2},
        "qformer": {"queries": 4, "width": 16, "depth": 1, "heads": 2},
        "quantizer": {"kind": "fsq", "levels": [4, 4]}, "branches": {"depth": 1, "reverse_depth": 1},
        "decoder": {"patch": 8, "width": 16, "depth": 0, "heads": 2, "flow": {"dim": 8, "blocks": 1, "steps": 2}},
        "captions": {"words": 4, "buckets": 32, "width": 16, "depth": 1, "heads": 2, "dim": dim}, **changes,
    }  # fmt: skip
    model = ImageTokenizer(parse_config(content, ImageTokenizerConfig, "tiny")).eval()
    for parameter in model.decoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def values(images) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def test_the_own_decoder_draws_unless_something_else_is_named():
    model = tokenizer()
    assert np.array_equal(values(model.render(CODES, 2, 7)), values(model.decode(CODES, 2, 7)))
    model.render_by(Own(guidance=3.0))
    assert np.array_equal(values(model.render(CODES)), values(model.decode(CODES, guidance=3.0)))
    assert not np.array_equal(values(model.render(CODES)), values(model.decode(CODES)))


def test_an_option_names_a_renderer_and_its_mistakes_are_told():
    assert chosen_renderer(None) is None and chosen_renderer("own") == Own()
    assert chosen_renderer("{kind: unclip, model: a, steps: 3}") == Unclip(model="a", steps=3)
    for text, said in (
        ("unclp", "no renderer 'unclp', did you mean unclip"),
        ("{kind: unclip}", "renderer.model: missing"),
        ("{kind: [", "not valid YAML"),
    ):
        with pytest.raises(ConfigError, match=said):
            chosen_renderer(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    diffusers = pytest.importorskip("diffusers")
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


def test_images_follow_embedding_and_seed(folder):
    decoder = UnclipDecoder(Unclip(model=str(folder), steps=2))
    rows = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
    first, second = (np.asarray(image) for image in decoder.draw(rows))
    alone = np.asarray(decoder.draw(rows[1:])[0])
    assert decoder.width == 32 and first.shape[2] == 3 and first.dtype == np.uint8
    assert np.array_equal(second, alone) and not np.array_equal(first, second)
    assert not np.array_equal(np.asarray(decoder.draw(rows[1:], seed=1)[0]), alone)


def test_unclip_draws_the_embedding_that_the_codes_predict(folder):
    chosen = Unclip(model=str(folder), steps=2)
    model = tokenizer(renderer=chosen.model_dump())
    expected = values(UnclipDecoder(chosen).draw(model.predicted_embedding(CODES), 3))
    assert np.array_equal(values(model.render(CODES, seed=3)), expected)
    assert values(model.decode(CODES)).shape[1:] == (16, 16, 3) != expected.shape[1:]  # the decoder is still there
    with pytest.raises(DataError, match="from all codes of an image"):
        model.render(CODES, first=2)
    with pytest.raises(ConfigError, match="embeddings of 32 values, this tokenizer predicts 8"):
        tokenizer(dim=8).render_by(chosen)
    with pytest.raises(ConfigError, match="this tokenizer predicts none"):
        tokenizer(branches=None).render_by(chosen)
    with pytest.raises(ConfigError, match="renderer.kind unclip draws from the embeddings that `branches` predict"):
        tokenizer(branches=None, renderer=chosen.model_dump())


def test_what_generates_and_what_decodes_draw_by_the_renderer(folder, tmp_path, monkeypatch, capsys):
    model, chosen = tokenizer(), Unclip(model=str(folder), steps=2)
    text = train_text_tokenizer(["a b"], 260)
    vocabulary = Vocabulary(
        text_size=len(text), text_fingerprint="x", image_codes=16, codes_per_image=4, speech_codes=0, speech_rate=0.0
    )
    whole = MultimodalTokenizer(vocabulary, text, None, model)
    whole.render_by(chosen)
    expected = values(UnclipDecoder(chosen).draw(model.predicted_embedding(CODES[:1])))[0]
    assert np.array_equal(np.asarray(decode_image(decode_with(whole)("image", CODES[0]).part.data)), expected)
    (part,) = whole.decode(vocabulary.encode_image(CODES[0]))
    assert np.array_equal(np.asarray(decode_image(part.data)), expected)
    with pytest.raises(ConfigError, match="no image tokenizer"):
        MultimodalTokenizer(vocabulary, text, None, None).render_by(chosen)
    model.save(tmp_path / "tokenizer")
    (tmp_path / "codes.jsonl").write_text(json.dumps({"id": "one", "codes": CODES[0].tolist()}) + "\n")
    option = f"{{kind: unclip, model: {folder}, steps: 2}}"
    words = [tmp_path / "tokenizer", tmp_path / "codes.jsonl", tmp_path / "out", "--renderer", option]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "one.png")), expected)


def test_what_is_evaluated_is_what_the_renderer_draws(folder):
    model, chosen = tokenizer(), Unclip(model=str(folder), steps=2)
    shown = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)) for i in range(3)]
    own = evaluate_image_tokenizer(model, shown, ["a", "b", "c"])
    found = evaluate_image_tokenizer(model, shown, ["a", "b", "c"], renderer=chosen)
    pictures = UnclipDecoder(chosen).draw(model.predicted_embedding(model.encode(shown)))
    expected = values([picture.resize((16, 16), Image.Resampling.BICUBIC) for picture in pictures])
    assert found.rendered is not None and np.array_equal(values(found.rendered), expected) and own.rendered is None
    assert found.figures["PSNR"] == pytest.approx(float(psnr(values(shown), expected).mean())) != own.figures["PSNR"]
    assert found.figures["pFID"] != own.figures["pFID"]
    assert {name for name in own.figures if own.figures[name] != found.figures[name]} == {
        "PSNR",
        "feature distance",
        "rFID",
        "pFID",
    }


def test_the_command_evaluates_by_a_renderer_and_fails_what_is_no_better_than_its_floors(folder, tmp_path, monkeypatch, capsys):
    tokenizer().save(tmp_path / "tokenizer")
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number in range(6):
            data = encode_png(Image.new("RGB", (16, 16), (40 * number, 200, 90)))
            writer.write(Document(f"d/{number}", "d", (ImagePart(data, "png", 16, 16, alt=f"number {number}"),)))
    words = [tmp_path / "tokenizer", tmp_path / "shards", "--trained-on", tmp_path / "shards", "--page", tmp_path / "page.html"]
    script = SCRIPT.with_name("evaluate.py")
    monkeypatch.setattr(
        sys, "argv", [str(script), *map(str, words), "--renderer", f"{{kind: unclip, model: {folder}, steps: 2}}"]
    )
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "by the renderer" in (tmp_path / "page.html").read_text()
    short = "\n".join(line for line in said.splitlines() if "short" in line)
    assert "PSNR above the mean picture, dB" in short and "PSNR above the nearest training picture, dB" in short


def test_a_suite_draws_by_the_renderer_and_takes_what_another_drew_for_another_models(folder, tmp_path, monkeypatch):
    loaded, identities = [], []
    monkeypatch.setattr("mmpt.inference.load.load", lambda path, renderer=None: loaded.append(renderer))
    monkeypatch.setattr(
        "mmpt.evaluation.suite.run_suite", lambda config, model, name, out, checkpoint: identities.append(checkpoint) or []
    )
    monkeypatch.setattr("mmpt.evaluation.pages.suite.write_page", lambda folders, page: page)
    checkpoint = tmp_path / "run"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text('{"format": "mmpt-checkpoint/1"}')
    (tmp_path / "suite.yaml").write_text("benchmarks: [{name: loss, kind: loss, folder: tokens}]")
    script = SCRIPT.parent.parent / "recipes" / "evaluate.py"
    for option in ([], ["--renderer", f"{{kind: unclip, model: {folder}, steps: 2}}"]):
        monkeypatch.setattr(sys, "argv", [str(script), str(checkpoint), str(tmp_path / "suite.yaml"), *option])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code == 0
    assert loaded == [None, Unclip(model=str(folder), steps=2)]
    assert identities[0] != identities[1]


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"expected finite \[images, 32\]"):
        UnclipDecoder(Unclip(model=str(folder))).draw(np.zeros((1, 7)))
    with pytest.raises(ConfigError, match="no unCLIP pipeline can be loaded"):
        UnclipDecoder(Unclip(model=str(tmp_path)))
