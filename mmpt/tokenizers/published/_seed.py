"""The codec of `Seed`.

After AILab-CVC/SEED, models/seed_qformer: the names of the weights are those of the released checkpoint, whose ViT is EVA's and
whose Q-Former is a BERT with cross-attention in every second layer, both as BLIP-2 has them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.kernels.nearest_code import nearest_code
from mmpt.storage import read_json
from mmpt.tokenizers.image.renderers import ImageRenderer, Renderer
from mmpt.tokenizers.published._loading import load_tensors, tensors_under
from mmpt.tokenizers.published._pictures import PictureCodec, Scale
from mmpt.tokenizers.published.seed import Seed

_CLIP = Scale(1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
}
_VISION_LAYER = {".norm1.": ".layer_norm1.", ".norm2.": ".layer_norm2.", ".attn.proj.": ".self_attn.projection."}
_QFORMER = {".self.": ".attention.", "bert.embeddings.LayerNorm.": "layernorm.", "bert.encoder.": "encoder."}
_UNREAD = ("position_ids", ".intermediate.", "word_embeddings", "position_embeddings")


class SeedCodec(PictureCodec):
    """ViT, Q-Former whose queries see earlier ones alone, codebook; and of codes, the embedding that unCLIP draws from."""

    def __init__(self, settings: Seed, folder: Path):
        shape = read_json(folder / "config.json", CheckpointError)
        super().__init__(settings.figures(shape), _CLIP)
        vision = Blip2VisionConfig(**shape["vision"], image_size=shape["side"], layer_norm_eps=1e-6, qkv_bias=True)
        qformer = Blip2QFormerConfig(**shape["qformer"], encoder_hidden_size=vision.hidden_size, cross_attention_frequency=2)
        width, dim, queries = qformer.hidden_size, shape["code_dim"], shape["queries"]
        self.vision = Blip2VisionModel(vision)
        self.vision.post_layernorm.eps = 1e-5  # BLIP-2's own norm behind EVA's blocks, of another library
        self.qformer = Blip2QFormerModel(qformer)
        self.query_tokens = nn.Parameter(torch.zeros(1, queries, width))
        self.quantize = nn.Embedding(shape["codes"], dim)
        self.encode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))
        self.decode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, width))
        self.pos_embed_image = nn.Parameter(torch.zeros(1, queries, width))
        self.blocks_image = nn.ModuleList(_Block(width, shape["branch_heads"]) for _ in range(shape["branch_depth"]))
        plain = [nn.Linear(one, other, bias=False) for one, other in ((width, 256), (256, 128), (128, 32))]
        self.image_down = nn.Sequential(plain[0], nn.ReLU(), plain[1], nn.ReLU(), plain[2])
        self.distill_image_proj = nn.Linear(queries * 32, shape["embedding"])
        load_tensors(self, _named(tensors_under(folder, ("",))), folder)
        self._renderer: ImageRenderer | None = None
        self.eval()

    @property
    def embedding_width(self) -> int:
        """Values of the embedding that codes predict."""
        return self.distill_image_proj.out_features

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device

    def codes_of(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.vision(pixels).last_hidden_state
        count = self.query_tokens.shape[1]
        causal = torch.ones(count, count, dtype=torch.bool, device=pixels.device).tril()[None, None]
        states = self.qformer(
            query_embeds=self.query_tokens.expand(len(pixels), -1, -1),
            attention_mask=causal.expand(len(pixels), -1, -1, -1),
            encoder_hidden_states=features,
        ).last_hidden_state
        vectors = self.encode_task_layer(states)
        return nearest_code(vectors.flatten(0, 1), self.quantize.weight).view(len(pixels), -1)

    def pixels_of(self, codes: torch.Tensor) -> torch.Tensor:
        raise DataError("codes of SEED are drawn by a renderer: --renderer '{kind: unclip, model: …}'")

    def predicted_embedding(self, codes: np.ndarray) -> np.ndarray:
        """The embedding that an unCLIP model is conditioned on, float32 [n, embedding_width], of `codes` [n, codes_per_image]."""
        with torch.inference_mode():
            x = self.decode_task_layer(self.quantize(self.checked_codes(codes).to(self.device))) + self.pos_embed_image
            for block in self.blocks_image:
                x = block(x)
            return self.distill_image_proj(self.image_down(x).flatten(1)).float().cpu().numpy()

    def render_by(self, renderer: Renderer) -> None:
        if renderer.kind != "unclip":
            raise ConfigError(f"renderer: {renderer.kind} cannot draw codes of SEED, expected unclip")
        self._renderer = renderer.build(cast(Any, self))  # of all that an image tokenizer is, it asks for `Drawn`

    def render(self, codes: np.ndarray, first: int | None = None, seed: int = 0) -> Sequence[Image.Image]:
        return super().render(codes, first, seed) if self._renderer is None else self._renderer.render(codes, first, seed)


class _Block(nn.Module):
    """A transformer block of a ViT, normalised before."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] of the same."""
        queries, keys, values = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values)
        x = x + self.attn["proj"](seen.transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


def _named(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The released checkpoint's tensors by the names of this module."""
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "visual_encoder":
            name = _renamed(_renamed(rest, _VISION, start=True), _VISION_LAYER, start=False)
            found[f"vision.{name}"] = value
        elif part == "ln_vision":
            found[f"vision.post_layernorm.{rest}"] = value
        elif part == "Qformer" and not any(one in rest for one in _UNREAD):
            found[f"qformer.{_renamed(rest, _QFORMER, start=False)}"] = value
        elif name == "quantize.embedding.weight":
            found["quantize.weight"] = value
        else:
            found[name] = value
    return _with_joined_biases(found)


def _renamed(name: str, words: dict[str, str], start: bool) -> str:
    for old, new in words.items():
        if start and name.startswith(old):
            return new + name.removeprefix(old)
        name = name if start else name.replace(old, new)
    return name


def _with_joined_biases(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """EVA has a bias for queries and one for values; here they are one, of which that of the keys is zero."""
    found = {}
    for name, value in tensors.items():
        if name.endswith(".attn.q_bias") and name.startswith("vision."):
            layer = name.removesuffix(".attn.q_bias")
            values = tensors[f"{layer}.attn.v_bias"]
            found[f"{layer}.self_attn.qkv.bias"] = torch.cat([value, torch.zeros_like(values), values])
        elif name.startswith("vision.") and name.endswith(".attn.qkv.weight"):
            found[name.replace(".attn.", ".self_attn.")] = value
        elif not name.endswith(".attn.v_bias"):
            found[name] = value
    return found
