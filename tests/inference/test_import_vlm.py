"""Vision language models of transformers as checkpoints: the logits that transformers' own forward pass gives."""

import sys

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_vlm import DECODER, INTERN_CHAT, words, write_internvl, write_llava
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessor,
    GotOcr2ImageProcessor,
    LlamaConfig,
)

from mmpt.cli import main
from mmpt.data.loading.packing import FeatureParts
from mmpt.data.tiles import Tiles
from mmpt.document import Image, Text
from mmpt.errors import ConfigError
from mmpt.inference.load import load
from mmpt.media import decode_image, encode_png
from mmpt.model.forward import packed_logits
from mmpt.model.import_vlm import import_vlm
from mmpt.model.vlm_parts import vision_parts
from mmpt.tokenizers.text import encode_text

from .tiny import image_tokenizer


@pytest.fixture(scope="module", params=["clip", "siglip", "untied"])
def llava(request, tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("llava"), request.param)


@pytest.fixture(scope="module")
def internvl(tmp_path_factory):
    return write_internvl(tmp_path_factory.mktemp("internvl"))


def drawn(width: int = 32, height: int = 32) -> PIL.Image.Image:
    torch.manual_seed(5)
    return PIL.Image.fromarray(torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).numpy())


def own_logits(folder, ids: list[int], picture: PIL.Image.Image, processor) -> torch.Tensor:
    """What transformers makes of the picture and these ids, in which 2 stands for each row of it."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = processor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]


def logits(model, ids: list[int], media) -> torch.Tensor:
    features, borders = FeatureParts(), torch.tensor([0, len(ids)])
    for one in media:
        features.add(*one)
    with torch.no_grad():
        entering, _ = model.inputs(features.joined(), borders)
        positions = torch.arange(len(ids))[None]
        return packed_logits(model.model, torch.tensor([ids]), positions, borders, features=entering)[0]


def test_llava_as_a_checkpoint_gives_the_logits_of_transformers(llava, tmp_path, monkeypatch, capsys):
    out = tmp_path / "taken"
    monkeypatch.setattr(sys, "argv", ["mmpt", "import", str(llava), "--out", str(out)])
    main()
    assert "16 rows" in capsys.readouterr().out
    model, text = load(out), AutoTokenizer.from_pretrained(llava)
    size, before, behind = len(text), encode_text(text, "the red"), encode_text(text, "circle above")
    ids = [0, *before, *[2] * 16, *behind]
    wanted = own_logits(llava, ids, drawn(), CLIPImageProcessor)[:, :size]
    slot, places = model.tokenizer.vocabulary.special("<|feature|>"), np.arange(16) + 1 + len(before)
    (prompt,) = model.prompts([(Image(encode_png(drawn()), "png", 32, 32),)])
    ((kind, _, pixels),) = prompt.media
    found = logits(model, [slot if one == 2 else one for one in ids], [(kind, places, pixels)])
    assert torch.allclose(found[:, :size], wanted, atol=1e-4) and float(wanted.std()) > 0.1
    # The marks that Llava knows are its own; the picture is seen.
    assert torch.equal(found[:, model.tokenizer.vocabulary.special("<|begin|>")], found[:, 0])
    other = logits(model, [slot if one == 2 else one for one in ids], [(kind, places, -pixels)])
    assert not torch.allclose(other[-1, :size], wanted[-1], atol=1e-2)


def test_its_chat_template_marks_conversations_as_its_own_does(llava, tmp_path):
    import_vlm(str(llava), tmp_path / "taken")
    model, text = load(tmp_path / "taken"), AutoTokenizer.from_pretrained(llava)
    chat = model.tokenizer.chat
    said = [Image(encode_png(drawn()), "png", 32, 32, role="user"), Text("what circle", role="user")]
    (prompt,) = model.prompts([said])
    vocabulary = model.tokenizer.vocabulary
    marks = {vocabulary.special(name) for name in ("<|image|>", "<|/image|>")}
    content = [{"type": "image"}, {"type": "text", "text": "what circle"}]
    wanted = text.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False)
    rows = [vocabulary.special("<|feature|>")] * 16
    cut = wanted.index(2)
    assert [one for one in prompt.ids if one not in marks] == [*wanted[:cut], *rows, *wanted[cut + 1 :]]
    assert prompt.end == chat.end == text.eos_token_id  # its template ends no answer; the model does


def test_it_goes_back_to_llava(llava, tmp_path):
    from mmpt.model.export import export_hf

    import_vlm(str(llava), tmp_path / "taken")
    export_hf(tmp_path / "taken", tmp_path / "back", llava=True)
    first, second = (AutoModelForImageTextToText.from_pretrained(one).state_dict() for one in (llava, tmp_path / "back"))
    assert all(torch.equal(value, second[name]) for name, value in first.items() if "embed" not in name and "lm_head" not in name)


@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (32, 160)])
def test_internvl_as_a_checkpoint_gives_the_logits_of_transformers(internvl, tmp_path, shape):
    import_vlm(str(internvl), tmp_path / "taken")
    model, text = load(tmp_path / "taken"), AutoTokenizer.from_pretrained(internvl)
    picture, size = drawn(*shape), len(text)
    said = [Image(encode_png(picture), "png", *shape, role="user"), Text("what circle", role="user")]
    (prompt,) = model.prompts([said])
    vocabulary = model.tokenizer.vocabulary
    known = {"<|image|>": 3, "<|/image|>": 4, "<|feature|>": 2}
    ids = [next((own for name, own in known.items() if vocabulary.special(name) == one), one) for one in prompt.ids]
    tiles = Tiles(max=5)
    assert ids.count(2) == 4 * len(tiles.names(tiles.grid(*shape, 32)))
    wanted = own_logits(internvl, ids, picture, GotOcr2ImageProcessor)[:, :size]
    found = logits(model, prompt.ids, prompt.media)
    # Where the thumbnail is made smaller, torchvision and Pillow round differently.
    near = 1e-4 if shape == (32, 32) else 2e-3
    assert torch.allclose(found[:, :size], wanted, atol=near) and float(wanted.std()) > 0.1


def test_tiles_are_those_of_its_processor(internvl):
    from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

    for width, height in [(50, 50), (300, 100), (100, 300), (200, 130), (640, 480), (97, 31), (1000, 990)]:
        for most in (1, 4, 12):
            grid = Tiles(max=most).grid(width, height, 32)
            assert (grid.columns, grid.rows) == get_optimal_tiled_canvas((height, width), (32, 32), 1, most)


def test_codes_of_a_tokenizer_get_rows_too(internvl, tmp_path):
    image_tokenizer().save(tmp_path / "codes")
    import_vlm(str(internvl), tmp_path / "taken", image=tmp_path / "codes")
    model = load(tmp_path / "taken")
    assert model.tokenizer.vocabulary.image_codes == 16
    (answer,) = model.answer([[Text("the red")]], outputs=["image"], max_new_tokens=12)
    assert decode_image(next(part.data for part in answer.parts if isinstance(part, Image))).size == (16, 16)


def test_what_has_no_place_is_told(llava, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(llava)
    for name, value, message in [
        ("vision_feature_layer", [-2, -1], "expected one layer"),
        ("projector_hidden_act", "relu", "projector_hidden_act: relu, expected gelu"),
    ]:
        kept = getattr(model.config, name)
        setattr(model.config, name, value)
        with pytest.raises(ConfigError, match=message):
            vision_parts(model, {})
        setattr(model.config, name, kept)
    with pytest.raises(ConfigError, match="LlamaForCausalLM, expected a Llava or an InternVL"):
        vision_parts(AutoModelForCausalLM.from_config(model.config.text_config), {})


def test_a_text_model_is_no_vision_language_model(tmp_path):
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=320, **DECODER)).save_pretrained(tmp_path / "text")
    words(INTERN_CHAT).save_pretrained(tmp_path / "text")
    with pytest.raises(ConfigError, match="no vision language model"):
        import_vlm(str(tmp_path / "text"), tmp_path / "taken")
    assert not (tmp_path / "taken").exists()
