"""Configuration of the image tokenizer: one section for each of its parts."""

from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizers import FsqConfig, QuantizerConfig


class VitConfig(Schema):
    """A vision transformer trained from scratch on patches of `patch` × `patch` pixels."""

    patch: int
    width: int
    depth: int
    heads: int


class TimmConfig(Schema):
    """A frozen vision tower of timm by its name. The tokenizer's `side` must be one that it accepts."""

    timm: str
    pretrained: bool = True


class QformerConfig(Schema):
    """The causal Q-Former: `queries` learned queries, one code each, in `depth` blocks."""

    queries: int
    width: int
    depth: int
    heads: int


class DecoderConfig(Schema):
    """The way from codes back to pixels, drawn in patches of `patch` × `patch` pixels."""

    patch: int
    width: int
    depth: int
    heads: int


class CaptionConfig(Schema):
    """The text tower over captions, used in training only: at most `words` words, hashed into `buckets` ids.

    `dim` is the size of the space in which pictures and captions are compared.
    """

    words: int = 32
    buckets: int = 16384
    width: int = 128
    depth: int = 2
    heads: int = 4
    dim: int = 64


class LossConfig(Schema):
    """Weights of the training loss. `pixels`: mean |difference| of pixels in −1 … 1; `edges`: the same of their gradients;
    `contrast`: pictures against captions (SEED, Ge et al. 2023, section 3.1); `predict`: what each query holds against what
    the text tower predicts from the caption alone, which keeps out of the codes what no caption could tell."""

    pixels: float = 1.0
    edges: float = 1.0
    contrast: float = 0.1
    predict: float = 0.1


class AugmentConfig(Schema):
    """Changes to a training picture: moved by up to `shift` pixels (borders repeat), mirrored half of the time with `flip`
    (never where captions tell left from right)."""

    shift: int = pydantic.Field(0, ge=0)
    flip: bool = False


class ImageTokenizerConfig(Schema):
    """Pictures are squashed to `side` × `side`. Until `quantize_from` of the training is over the states pass unquantised, so
    that the codebook starts on features that mean something. `precision`: of the matrix products in training; codes are
    always chosen in float32."""

    side: int
    tower: VitConfig | TimmConfig
    qformer: QformerConfig
    quantizer: QuantizerConfig
    decoder: DecoderConfig
    captions: CaptionConfig = CaptionConfig()
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    quantize_from: float = pydantic.Field(0.1, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> "ImageTokenizerConfig":
        problems = []
        for name, section in (("tower", self.tower), ("qformer", self.qformer), ("decoder", self.decoder), ("captions", self.captions)):
            if isinstance(section, TimmConfig):
                continue
            if section.width % section.heads:
                problems.append(f"{name}.width {section.width} is no multiple of {name}.heads {section.heads}")
            if hasattr(section, "patch") and self.side % section.patch:
                problems.append(f"side {self.side} is no multiple of {name}.patch {section.patch}")
        if isinstance(self.quantizer, FsqConfig) and min(self.quantizer.levels, default=0) < 2:
            problems.append("quantizer.levels must be numbers of 2 or more")
        if problems:
            raise ValueError("; ".join(problems))
        return self
