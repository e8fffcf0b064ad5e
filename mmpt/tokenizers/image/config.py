"""Configuration of the image tokenizer: one section for each of its parts."""

from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizers import QuantizerConfig


class VitConfig(Schema):
    """A vision transformer trained from scratch: `patch` (a power of two) pixels square become one feature of `width` through
    stride-2 convolutions, and `depth` blocks follow (0 is allowed: convolutions alone)."""

    patch: int
    width: int
    depth: int
    heads: int


class TimmConfig(Schema):
    """A frozen vision tower of timm by its name. The tokenizer's `side` must be one that it accepts."""

    timm: str
    pretrained: bool = True


class QformerConfig(Schema):
    """The causal Q-Former: `queries` learned queries, one code each, in `depth` blocks. Cross-attention starts
    with its logits `sharpness`² times their usual size, so that queries look at different places from the first step."""

    queries: int
    width: int
    depth: int
    heads: int
    sharpness: float = 4.0


class DecoderConfig(Schema):
    """The way from codes back to pixels: one state of `width` for each `patch` × `patch` pixels (a power of two), `depth`
    transformer blocks over them (0 is allowed), and one convolution for each doubling up to pixels."""

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
    """Weights of the training loss. `pixels`: differences of pixels in −1 … 1, where shapes may be off by up to `tolerance`
    pixels; `contrast`: pictures against captions (SEED, Ge et al. 2023, section 3.1); `predict`: what each query holds against
    what the text tower predicts from the caption alone, which keeps out of the codes what no caption could tell; `describe`:
    the caption, written by a small decoder from the codes."""

    pixels: float = 10.0
    tolerance: int = pydantic.Field(0, ge=0)
    contrast: float = 0.05
    predict: float = 0.2
    describe: float = 0.1


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
        sections = {"tower": self.tower, "qformer": self.qformer, "decoder": self.decoder, "captions": self.captions}
        for name, section in sections.items():
            if isinstance(section, TimmConfig):
                continue
            if section.width % section.heads:
                problems.append(f"{name}.width {section.width} is no multiple of {name}.heads {section.heads}")
            patch = getattr(section, "patch", 1)
            if patch < 1 or patch & (patch - 1) or self.side % patch:
                problems.append(f"{name}.patch {patch} is no power of two that divides side {self.side}")
        if not self.quantizer.codes or self.quantizer.depth > 1:
            problems.append(f"quantizer.kind {self.quantizer.kind} does not give one code for each query")
        if problems:
            raise ValueError("; ".join(problems))
        return self
