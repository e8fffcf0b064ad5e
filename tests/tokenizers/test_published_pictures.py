"""Published image tokenizers: codes and pixels are those of their own library, alone and inside of a language model."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_published import chameleon, emu3, inside_of, janus

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.load import load_image
from mmpt.tokenizers.published.chameleon import Chameleon
from mmpt.tokenizers.published.emu3 import Emu3
from mmpt.tokenizers.published.janus import Janus
from mmpt.tokenizers.published_folder import import_tokenizer

SIDE = 8
KINDS = {"emu3": (Emu3, {"side": SIDE}, emu3), "chameleon": (Chameleon, {}, chameleon), "janus": (Janus, {}, janus)}


def pictures(count: int = 3) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


def scaled(kind: str) -> torch.Tensor:
    """Pixels as the model takes them, by hand."""
    values = torch.tensor(np.stack([np.asarray(one) for one in pictures()])).permute(0, 3, 1, 2).float()
    return values * 0.0078 - 1 if kind == "chameleon" else values / 127.5 - 1


@torch.inference_mode()
def itself(kind: str, model) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes [n, 16] and, where the library draws, bytes [n, side, side, 3]."""
    if kind == "emu3":
        tokens = torch.stack(model.encode(scaled(kind), torch.full((3, 2), SIDE)).image_tokens)
        drawn = model.decode(tokens)
    else:
        tokens = model.encode(scaled(kind)).image_tokens.view(3, -1)
        drawn = model.decode(tokens) if kind == "janus" else None
    shown = None if drawn is None else ((drawn + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return tokens.flatten(1).numpy(), shown


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_pixels_are_those_of_the_library(kind, tmp_path):
    method, options, make = KINDS[kind]
    model = make(tmp_path / "model")
    codec = method(**options).load(tmp_path / "model")
    expected, shown = itself(kind, model)
    found = codec.encode(pictures())
    assert found.dtype == np.int64 and found.tolist() == expected.tolist() and len(np.unique(found)) > 2
    assert codec.figures.codes == 32 and codec.figures.codes_per_image == 16 and codec.figures.bits == 80
    assert codec.encode([]).shape == (0, 16)
    if shown is None:
        with pytest.raises(DataError, match="cannot be drawn"):
            codec.render(found)
    else:
        drawn = np.stack([np.asarray(one) for one in codec.render(found)])
        assert np.abs(drawn.astype(int) - shown).max() <= 1 and drawn.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_language_models_checkpoint_only_the_tokenizer_is_taken(kind, tmp_path):
    method, options, make = KINDS[kind]
    model = make(tmp_path / "alone")
    more = {"vision_config": {"image_size": 64, "patch_size": 16}} if kind == "janus" else {}
    whole = inside_of(model, kind, tmp_path / "whole", **more)
    expected = itself(kind, model)[0].tolist()
    settings = method(model=str(whole), **options)
    assert settings.load(whole).encode(pictures()).tolist() == expected
    import_tokenizer(settings, tmp_path / "imported")
    assert load_image(tmp_path / "imported").encode(pictures()).tolist() == expected
    names = ["config.json", "model-1.safetensors", "model-2.safetensors", "a.bin"]
    index = {"model.vqmodel.quantize.embedding.weight": "model-2.safetensors", "model.norm.weight": "model-1.safetensors"}
    assert settings.files(names, index) == ["config.json", "model-2.safetensors"]


def test_pixels_are_scaled_as_the_checkpoint_says(tmp_path):
    model = janus(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text(
        '{"rescale_factor": 0.01, "image_mean": [1, 1, 1], "image_std": [2, 2, 2]}'
    )
    values = torch.tensor(np.stack([np.asarray(one) for one in pictures()])).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = model.encode((values * 0.01 - 1) / 2).image_tokens.view(3, -1)
    assert Janus().load(tmp_path / "model").encode(pictures()).tolist() == expected.tolist()


def test_pictures_of_any_size_are_squashed_and_what_does_not_fit_is_told(tmp_path):
    emu3(tmp_path / "model")
    codec = Emu3(side=SIDE).load(tmp_path / "model")
    wide = Image.new("L", (40, 10), 80)
    assert codec.encode([wide]).tolist() == codec.encode([wide.convert("RGB").resize((SIDE, SIDE))]).tolist()
    with pytest.raises(ConfigError, match="side is 9, expected a multiple of 2"):
        Emu3(side=9).load(tmp_path / "model")
    for codes, problem in [
        (np.zeros((1, 15), dtype=int), "expected int .images, 16."),
        (np.full((1, 16), 32), "expected 0 … 31"),
    ]:
        with pytest.raises(DataError, match=problem):
            codec.render(codes)
    with pytest.raises(DataError, match="all codes of an image"):
        codec.render(np.zeros((1, 16), dtype=int), first=3)
    with pytest.raises(ConfigError, match="own draws for tokenizers trained here"):
        codec.render_by(Own())
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no Emu3VQVAE can be loaded"):
        Emu3(side=SIDE).load(tmp_path / "model")
