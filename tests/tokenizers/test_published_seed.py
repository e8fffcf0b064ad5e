"""SEED's released tokenizer: a checkpoint with its names against the computation written down again, imported from its pickle."""

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.load import load_image
from mmpt.tokenizers.published._seed import SeedCodec
from mmpt.tokenizers.published.seed import SHAPE, Seed
from mmpt.tokenizers.published_folder import import_tokenizer, opened

ROOT = Path(__file__).resolve().parents[2]
SEEN, WIDTH, QUERIES, CODES, DIM, LAYERS = 16, 12, 4, 60, 6, 3
SHAPED = {
    "model_type": "seed_tokenizer", "side": 8, "queries": QUERIES, "codes": CODES, "code_dim": DIM,
    "vision": {"hidden_size": SEEN, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4},
    "qformer": {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 3, "intermediate_size": 24},
    "branch_depth": 1, "branch_heads": 2, "embedding": 10,
}  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    """Random ones under the names of seed_quantizer.pt."""
    draw, found = torch.Generator().manual_seed(0), {}

    def linear(name, out, into, bias=True):
        found[f"{name}.weight"] = torch.randn(out, into, generator=draw) * 0.4
        if bias:
            found[f"{name}.bias"] = torch.randn(out, generator=draw) * 0.4

    def norm(name, width):
        found[f"{name}.weight"] = 1 + 0.3 * torch.randn(width, generator=draw)
        found[f"{name}.bias"] = 0.3 * torch.randn(width, generator=draw)

    found["visual_encoder.cls_token"] = torch.randn(1, 1, SEEN, generator=draw)
    found["visual_encoder.pos_embed"] = torch.randn(1, 5, SEEN, generator=draw)
    found["visual_encoder.patch_embed.proj.weight"] = torch.randn(SEEN, 3, 4, 4, generator=draw) * 0.3
    found["visual_encoder.patch_embed.proj.bias"] = torch.randn(SEEN, generator=draw)
    for layer in range(2):
        place = f"visual_encoder.blocks.{layer}"
        norm(f"{place}.norm1", SEEN), norm(f"{place}.norm2", SEEN)
        linear(f"{place}.attn.qkv", 3 * SEEN, SEEN, bias=False), linear(f"{place}.attn.proj", SEEN, SEEN)
        found[f"{place}.attn.q_bias"] = torch.randn(SEEN, generator=draw)
        found[f"{place}.attn.v_bias"] = torch.randn(SEEN, generator=draw)
        linear(f"{place}.mlp.fc1", 20, SEEN), linear(f"{place}.mlp.fc2", SEEN, 20)
    norm("ln_vision", SEEN)
    found["query_tokens"] = torch.randn(1, QUERIES, WIDTH, generator=draw)
    norm("Qformer.bert.embeddings.LayerNorm", WIDTH)
    found["Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    for layer in range(LAYERS):
        place = f"Qformer.bert.encoder.layer.{layer}"
        for attention, into in [("attention", WIDTH), *([("crossattention", SEEN)] if layer % 2 == 0 else [])]:
            for name, width in (("query", WIDTH), ("key", into), ("value", into)):
                linear(f"{place}.{attention}.self.{name}", WIDTH, width)
            linear(f"{place}.{attention}.output.dense", WIDTH, WIDTH), norm(f"{place}.{attention}.output.LayerNorm", WIDTH)
        linear(f"{place}.intermediate_query.dense", 24, WIDTH), linear(f"{place}.output_query.dense", WIDTH, 24)
        norm(f"{place}.output_query.LayerNorm", WIDTH)
    found["quantize.embedding.weight"] = torch.randn(CODES, DIM, generator=draw)
    linear("encode_task_layer.0", WIDTH, WIDTH), linear("encode_task_layer.2", DIM, WIDTH)
    linear("decode_task_layer.0", DIM, DIM), linear("decode_task_layer.2", WIDTH, DIM)
    for name in ("pos_embed", "pos_embed_image"):
        found[name] = torch.randn(1, QUERIES, WIDTH, generator=draw)
    for place in ("blocks.0", "blocks_image.0"):  # the first restores the Q-Former's states, and is not read
        norm(f"{place}.norm1", WIDTH), norm(f"{place}.norm2", WIDTH)
        linear(f"{place}.attn.qkv", 3 * WIDTH, WIDTH), linear(f"{place}.attn.proj", WIDTH, WIDTH)
        linear(f"{place}.mlp.fc1", 4 * WIDTH, WIDTH), linear(f"{place}.mlp.fc2", WIDTH, 4 * WIDTH)
    for place, out, into in (("0", 256, WIDTH), ("2", 128, 256), ("4", 32, 128)):
        linear(f"image_down.{place}", out, into, bias=False)
    linear("distill_image_proj", 10, QUERIES * 32)
    return found


class ByHand:
    """The computation in float64, one token at a time where that is what tells mistakes."""

    def __init__(self, tensors):
        self.w = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}

    def linear(self, name, x):
        found = x @ self.w[f"{name}.weight"].T
        return found + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else found

    def norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    @staticmethod
    def attend(q, k, v, heads, causal=False):
        size, found = q.shape[1] // heads, torch.zeros_like(q)
        for row in range(len(q)):
            until = row + 1 if causal else len(k)
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                scores = torch.softmax(k[:until, part] @ q[row, part] / math.sqrt(size), dim=0)
                found[row, part] = scores @ v[:until, part]
        return found

    def block(self, place, x, heads, eps):
        y = self.norm(f"{place}.norm1", x, eps)
        q, k, v = self.linear(f"{place}.attn.qkv", y).chunk(3, dim=1)
        if f"{place}.attn.q_bias" in self.w:
            q, v = q + self.w[f"{place}.attn.q_bias"], v + self.w[f"{place}.attn.v_bias"]
        x = x + self.linear(f"{place}.attn.proj", self.attend(q, k, v, heads))
        return x + self.linear(f"{place}.mlp.fc2", F.gelu(self.linear(f"{place}.mlp.fc1", self.norm(f"{place}.norm2", x, eps))))

    def states(self, picture):
        mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
        pixels = ((torch.tensor(np.asarray(picture)).double() / 255 - mean) / std).permute(2, 0, 1)
        patches = [pixels[:, y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
        place = "visual_encoder"
        kernel, bias = self.w[f"{place}.patch_embed.proj.weight"], self.w[f"{place}.patch_embed.proj.bias"]
        x = torch.stack([self.w[f"{place}.cls_token"][0, 0], *((kernel * one).sum(dim=(1, 2, 3)) + bias for one in patches)])
        x = x + self.w[f"{place}.pos_embed"][0]
        for layer in range(2):
            x = self.block(f"{place}.blocks.{layer}", x, 2, 1e-6)
        seen = self.norm("ln_vision", x, 1e-5)
        x = self.norm("Qformer.bert.embeddings.LayerNorm", self.w["query_tokens"][0], 1e-12)
        for layer in range(LAYERS):
            place = f"Qformer.bert.encoder.layer.{layer}"
            for attention in ("attention", "crossattention")[: 2 - layer % 2]:
                own = attention == "attention"
                name = f"{place}.{attention}"
                k, v = (self.linear(f"{name}.self.{part}", x if own else seen) for part in ("key", "value"))
                found = self.attend(self.linear(f"{name}.self.query", x), k, v, 3, causal=own)
                x = self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", found) + x, 1e-12)
            inner = F.gelu(self.linear(f"{place}.intermediate_query.dense", x))
            x = self.norm(f"{place}.output_query.LayerNorm", self.linear(f"{place}.output_query.dense", inner) + x, 1e-12)
        return x

    def vectors(self, picture):
        return self.linear("encode_task_layer.2", torch.tanh(self.linear("encode_task_layer.0", self.states(picture))))

    def codes(self, picture):
        table = self.w["quantize.embedding.weight"]
        return (self.vectors(picture)[:, None] - table).square().sum(dim=2).argmin(dim=1).tolist()

    def embedding(self, codes):
        x = self.w["quantize.embedding.weight"][codes]
        x = self.linear("decode_task_layer.2", torch.tanh(self.linear("decode_task_layer.0", x))) + self.w["pos_embed_image"][0]
        x = self.block("blocks_image.0", x, 2, 1e-6)
        for place in ("0", "2", "4"):
            x = self.linear(f"image_down.{place}", x)
            x = x if place == "4" else F.relu(x)
        return self.linear("distill_image_proj", x.flatten())


def checkpoint(folder: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    folder.mkdir()
    save_file(tensors or weights(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(SHAPED))
    return folder


def pictures(count: int = 6) -> list[Image.Image]:
    draw = np.random.default_rng(1)
    tints = draw.integers(0, 200, (count, 1, 1, 3))
    return [Image.fromarray((tint + draw.integers(0, 56, (8, 8, 3))).astype(np.uint8)) for tint in tints]


def test_codes_and_embeddings_are_those_of_the_computation_by_hand(tmp_path):
    tensors = weights()
    vectors = torch.cat([ByHand(tensors).vectors(one) for one in pictures()]).float()
    # Codes that lie where vectors do: one that is a little wrong has another code.
    tensors["quantize.embedding.weight"][: len(vectors)] = vectors + 0.002 * torch.randn_like(vectors)
    codec, by_hand = Seed().load(checkpoint(tmp_path / "seed", tensors)), ByHand(tensors)
    found = codec.encode(pictures())
    assert found.tolist() == [by_hand.codes(one) for one in pictures()] and len(np.unique(found)) > 10
    expected = torch.stack([by_hand.embedding(row) for row in found.tolist()])
    np.testing.assert_allclose(codec.predicted_embedding(found), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert codec.embedding_width == 10 and codec.figures.codes_per_image == QUERIES


def test_the_released_pickle_is_imported_by_a_command_without_running_code(tmp_path, monkeypatch, capsys):
    folder, spec = tmp_path / "released", tmp_path / "seed.yaml"
    folder.mkdir()
    torch.save(weights(), folder / "seed_quantizer.pt")
    (folder / "config.json").write_text(json.dumps(SHAPED))
    spec.write_text(f"published: {{kind: seed, model: {folder}}}\n")
    script = str(ROOT / "tokenizers" / "import.py")
    monkeypatch.setattr(sys, "argv", [script, str(spec), str(tmp_path / "out")])
    runpy.run_path(script, run_name="__main__")
    assert "seed, 60 codes, 4 a picture, 24 bits a picture" in capsys.readouterr().out
    assert opened(tmp_path / "out").settings.model == str(folder)
    found = load_image(tmp_path / "out").encode(pictures(2))
    assert found.tolist() == Seed().load(checkpoint(tmp_path / "plain")).encode(pictures(2)).tolist()


class Trap:
    """Something whose unpickling runs code."""

    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch, capsys):
    torch.save({"query_tokens": Trap()}, tmp_path / "seed_quantizer.pt")
    (tmp_path / "seed.yaml").write_text(f"published: {{kind: seed, model: {tmp_path}}}\n")
    script = str(ROOT / "tokenizers" / "import.py")
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "seed.yaml"), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    said = capsys.readouterr()
    assert end.value.code == 2 and "seed_quantizer.pt: cannot be read" in said.err and "run" not in said.out.split()
    assert not (tmp_path / "out").exists()


def test_the_shape_of_the_released_one_is_known():
    """Names and sizes without the weights themselves: 1.2 billion of them."""
    figures = Seed().figures(SHAPE)
    assert (figures.codes, figures.codes_per_image, figures.side, figures.bits) == (8192, 32, 224, 416)
    vision, former = SHAPE["vision"], SHAPE["qformer"]
    assert vision["hidden_size"] == 1408 and vision["intermediate_size"] == int(1408 * 4.3637) and former["hidden_size"] == 768


def test_it_draws_by_an_unclip_model_alone(tmp_path):
    codec = Seed().load(checkpoint(tmp_path / "seed"))
    assert isinstance(codec, SeedCodec)
    codes = codec.encode(pictures(1))
    with pytest.raises(DataError, match="drawn by a renderer"):
        codec.render(codes)
    with pytest.raises(ConfigError, match="own cannot draw codes of SEED, expected unclip"):
        codec.render_by(Own())
    lost = weights()
    del lost["ln_vision.bias"]
    save_file(lost, tmp_path / "seed" / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks 1 weights: vision.post_layernorm.bias"):
        Seed().load(tmp_path / "seed")
    with pytest.raises(CheckpointError, match="expected a tokenizer's"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.json").write_text('{"model_type": "blip-2"}')
        import_tokenizer(Seed(model=str(tmp_path / "other")), tmp_path / "out")
