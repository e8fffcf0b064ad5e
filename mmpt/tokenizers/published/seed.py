"""The released tokenizer of SEED."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.modality import Medium
from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.published import Published

if TYPE_CHECKING:
    from mmpt.tokenizers.published._seed import SeedCodec

SHAPE = {
    "model_type": "seed_tokenizer",
    "side": 224,
    "vision": {
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "qformer": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "queries": 32,
    "codes": 8192,
    "code_dim": 32,
    "branch_depth": 4,
    "branch_heads": 12,
    "embedding": 1024,
}
"""Of the released checkpoint, which says nothing of itself (models/seed_qformer/qformer_quantizer.py)."""


class Seed(Published):
    """SEED's released tokenizer, that of SEED-LLaMA (Ge et al. 2023, arXiv:2310.01218; AILab-CVC/SEED): EVA-CLIP's ViT-g, a
    causal Q-Former, 32 codes of 8,192, and an embedding predicted of them that Stable Diffusion 2.1 unCLIP draws from. By
    transformers' `Blip2VisionModel` and `Blip2QFormerModel`; drawn by the renderer `unclip`."""

    carries: ClassVar[tuple[str, ...]] = ("SEED tokenizer / SEED-LLaMA",)
    tokenizes: ClassVar[Medium] = "image"
    models: ClassVar[tuple[str, ...]] = ("seed_tokenizer",)
    released: ClassVar[dict[str, Any]] = SHAPE
    pickle: ClassVar[str] = "seed_quantizer.pt"

    model: str = "AILab-CVC/seed-tokenizer-2"
    """A folder with the released seed_quantizer.pt, which `tokenizers/import.py` reads once; the Hugging Face name says where it
    comes from."""

    def figures(self, config: dict[str, Any]) -> ImageFigures:
        return ImageFigures(config["codes"], config["queries"], config["side"])

    def load(self, folder: Path) -> "SeedCodec":
        from mmpt.tokenizers.published._seed import SeedCodec

        return SeedCodec(self, folder)
