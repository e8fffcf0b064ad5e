"""A model with a connector of pictures, as transformers' Llava: the same logits without a line of mmpt."""

import json
import os
import subprocess
import sys

import PIL.Image
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from mmpt.cli import main
from mmpt.config import parse_config
from mmpt.data.loading.packing import FeatureParts
from mmpt.document import Image, Text
from mmpt.errors import ConfigError
from mmpt.inference.load import load
from mmpt.media import encode_png
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.config import FeatureInputConfig
from mmpt.model.export import export_hf
from mmpt.model.feature_inputs import FOLDER, FeatureInputs
from mmpt.model.forward import packed_logits
from mmpt.model.loading import FORMAT, load_model
from mmpt.storage import link_tree, published_folder

from .tiny import write_checkpoint

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
ALONE = """
import json, sys
sys.modules["mmpt"] = None  # not to be had
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, picture = sys.argv[1:]
model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
given = processor(images=Image.open(picture), text="<|begin|><|image|><|feature|><|/image|>the red", return_tensors="pt")
with torch.no_grad():
    logits = model(**given).logits[0]
    written = model.generate(**given, max_new_tokens=4, do_sample=False)[0].tolist()
print(json.dumps({"class": type(model).__name__, "ids": given["input_ids"][0].tolist(), "logits": logits.tolist(),
                  "pixels": given["pixel_values"].flatten()[:50].tolist(), "written": written}))
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(intermediate_size=48, **SIZES)).save_pretrained(folder / "clip")
    Dinov2Model(Dinov2Config(mlp_ratio=2, **SIZES)).save_pretrained(folder / "dinov2")
    return folder, find_checkpoint(write_checkpoint(folder / "tiny"))


def with_pictures(parts, name: str, published: str, **changes):
    """A checkpoint whose pictures come through a connector that says something."""
    folder, plain = parts
    chosen = {"kind": "transformers", "model": str(folder / published), "layer": -2, **changes.pop("tower", {})}
    content = {"encoder": {"side": 32, "tower": chosen}, **changes}
    model, _ = load_model(plain)
    inputs = FeatureInputs({"image": parse_config(content, FeatureInputConfig, "test")}, model, seed=7)
    with torch.no_grad():
        for parameter in inputs.parameters():
            parameter.mul_(3)
    with published_folder(folder / name, {"format": FORMAT, "step": 2}) as temporary:
        for part in ("backbone", "text_tokenizer", "speech_tokenizer", "image_tokenizer"):
            link_tree(plain / part, temporary / part)
        (temporary / "vocabulary.json").write_bytes((plain / "vocabulary.json").read_bytes())
        inputs.save_encoders(temporary / FOLDER)
        inputs.save_connectors(temporary / FOLDER)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tower", "connector", "patches_only"),
    [("clip", "mlp", True), ("clip", "linear", False), ("dinov2", "mlp", True)],
)
def test_llava_gives_the_logits_of_mmpt(parts, tmp_path, monkeypatch, tower, connector, patches_only):
    name = f"{tower}-{connector}"
    checkpoint = with_pictures(parts, name, tower, connector=connector, tower={"patches_only": patches_only})
    monkeypatch.setattr(sys, "argv", ["mmpt", "export", str(checkpoint), "--to", "llava", "--out", str(tmp_path / "llava")])
    main()
    drawn = PIL.Image.effect_noise((32, 32), 90).convert("RGB")
    drawn.save(tmp_path / "drawn.png")
    command = [os.environ["WARM_PYTHON"], "-c", ALONE, str(tmp_path / "llava"), str(tmp_path / "drawn.png")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert found["class"] == "LlavaForConditionalGeneration"

    model = load(checkpoint)
    (prompt,) = model.prompts([(Image(encode_png(drawn), "png", 32, 32), Text("the red"))])
    assert found["ids"] == prompt.ids
    features = FeatureParts()
    ((kind, places, pixels),) = prompt.media
    features.add(kind, places, pixels)
    borders = torch.tensor([0, len(prompt.ids)])
    with torch.no_grad():
        media, _ = model.inputs(features.joined(), borders)
        ids = torch.tensor([prompt.ids])
        wanted = packed_logits(model.model, ids, torch.arange(len(prompt.ids))[None], borders, features=media)[0]
    assert torch.allclose(torch.tensor(found["logits"]), wanted, atol=2e-4)
    assert float(wanted.std()) > 0.1 and len(found["written"]) > len(prompt.ids)
    # Another picture gives other logits: the picture is seen.
    pixels.neg_()
    features = FeatureParts()
    features.add(kind, places, pixels)
    with torch.no_grad():
        other, _ = model.inputs(features.joined(), borders)
        others = packed_logits(model.model, ids, torch.arange(len(prompt.ids))[None], borders, features=other)[0]
    assert not torch.allclose(others[-1], wanted[-1], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiles": {}}, "tiles: expected null"),
        ({"connector": {"kind": "resampler", "rows": 2, "heads": 2}}, "connector: expected linear or mlp"),
        ({"connector": {"kind": "mlp", "start_token": True}}, "start_token: expected false"),
        ({"reduce": {"rows": 4}}, "reduce: expected null"),
        ({"tower": {"layer": None}}, "tower.layer: expected a number"),
    ],
)
def test_what_llava_has_no_place_for_is_told(parts, tmp_path, changes, message):
    checkpoint = with_pictures(parts, f"odd-{message[:9].strip(':. ')}", "clip", **changes)
    with pytest.raises(ConfigError, match=message):
        export_hf(checkpoint, tmp_path / "llava", llava=True)
    assert not (tmp_path / "llava").exists()


def test_a_model_of_codes_alone_is_no_llava(parts, tmp_path):
    with pytest.raises(ConfigError, match="has no features/"):
        export_hf(parts[1], tmp_path / "llava", llava=True)
