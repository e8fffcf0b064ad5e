"""Configuration of the image tokenizer: one section for each of its parts."""

from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizer_config import QuantizerConfig


class VitConfig(Schema):
    """A vision transformer trained from scratch: `patch` (a power of two) pixels square become one feature of `width` through
    stride-2 convolutions, and `depth` blocks follow (0 is allowed: convolutions alone)."""

    patch: int
    width: int
    depth: int
    heads: int


class TimmConfig(Schema):
    """A frozen vision tower of timm by its name. Where the tokenizer's `side` is not the model's, positions are resampled."""

    timm: str
    pretrained: bool = True


class OpenClipConfig(Schema):
    """The frozen picture side of an open_clip model by its name; `pretrained`: a tag of that model, or a file of its weights,
    read where training starts; null: random weights, which never learn. Where the tokenizer's `side` is not the model's, its
    positions are resampled."""

    open_clip: str
    pretrained: str | None = None

    @pydantic.model_validator(mode="after")
    def _weights_are_named(self) -> "OpenClipConfig":
        if "pretrained" not in self.model_fields_set:
            raise ValueError("pretrained: missing; a tag of the model or a file of weights, since a frozen tower never learns")
        return self


TowerConfig = VitConfig | TimmConfig | OpenClipConfig


class QformerConfig(Schema):
    """The Q-Former: `queries` learned queries, one code each, in `depth` blocks. `causal`: a query sees earlier queries alone;
    without, all. Cross-attention starts with its logits `sharpness`² times their usual size, so that queries look at different
    places from the first step. `summary`: the states that are compared with captions, the last or the mean of all."""

    queries: int
    width: int
    depth: int
    heads: int
    sharpness: float = 4.0
    causal: bool = True
    summary: Literal["last", "mean"] = "last"


class BranchConfig(Schema):
    """What SEED trains beside the codebook: `depth` blocks that give back the Q-Former's states from the codes, as many that
    prepare them for the reverse Q-Former, of `reverse_depth` blocks and one query, which predicts the picture's embedding.

    `target`: the model whose embedding that is; by default the tokenizer's own, by which pictures and captions are compared.
    """

    depth: int = pydantic.Field(4, ge=1)
    reverse_depth: int = pydantic.Field(4, ge=1)
    target: OpenClipConfig | None = None


class PixelFlowConfig(Schema):
    """Flow matching over pixels: `blocks` convolutional blocks, `dim` wide, over patches of `patch` × `patch` pixels (a power of
    two); `steps` from noise to picture; `guidance` by what the codes change (0: none, half the work)."""

    dim: int = pydantic.Field(96, ge=8)
    blocks: int = pydantic.Field(6, ge=1)
    patch: int = pydantic.Field(2, ge=1)
    steps: int = pydantic.Field(8, ge=1)
    guidance: float = pydantic.Field(0.5, ge=0)


class DecoderConfig(Schema):
    """The way from codes back to pixels: one state of `width` for each `patch` × `patch` pixels (a power of two), `depth`
    transformer blocks over them (0 is allowed), and one convolution for each doubling up to pixels; with `flow`, a finer
    picture is drawn from that one."""

    patch: int
    width: int
    depth: int
    heads: int
    flow: PixelFlowConfig | None = None


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


class AugmentConfig(Schema):
    """Changes to a training picture: moved by up to `shift` pixels (borders repeat), mirrored half of the time with `flip`
    (never where captions tell left from right)."""

    shift: int = pydantic.Field(0, ge=0)
    flip: bool = False


class ImageTokenizerConfig(Schema):
    """Pictures are squashed to `side` × `side`. `branches`: what stage II of SEED needs. `precision`: of the matrix products in
    training, bf16 only where the device has instructions for it; codes are always chosen in float32."""

    side: int
    tower: TowerConfig
    qformer: QformerConfig
    quantizer: QuantizerConfig
    decoder: DecoderConfig
    branches: BranchConfig | None = None
    captions: CaptionConfig = CaptionConfig()
    augment: AugmentConfig = AugmentConfig()
    precision: Literal["fp32", "bf16"] = "fp32"

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> "ImageTokenizerConfig":
        problems = []
        sections = {"tower": self.tower, "qformer": self.qformer, "decoder": self.decoder, "captions": self.captions}
        for name, section in sections.items():
            width, heads = getattr(section, "width", 1), getattr(section, "heads", 1)
            if width % heads:
                problems.append(f"{name}.width {width} is no multiple of {name}.heads {heads}")
        patches = {"tower": getattr(self.tower, "patch", 1), "decoder": self.decoder.patch}
        if self.decoder.flow:
            patches["decoder.flow"] = self.decoder.flow.patch
        for name, patch in patches.items():
            if patch < 1 or patch & (patch - 1) or self.side % patch:
                problems.append(f"{name}.patch {patch} is no power of two that divides side {self.side}")
        if not self.quantizer.codes or self.quantizer.depth > 1:
            problems.append(f"quantizer.kind {self.quantizer.kind} does not give one code for each query")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Gates(Schema):
    """What a tokenizer must hold to be of use. `used`, `entropy`: least share of codes in use, least entropy ÷ log of their
    number; `gap`: most points of R@mean that codes may lie below embeddings (SEED, table 1: 2.0 and 3.3); `recall`: least R@mean
    of the embeddings themselves, in multiples of chance (0.5 where that is less), since codes as bad as bad embeddings lie below
    nothing; `prefixes`: whether each beginning of the codes must draw something nearer to the picture than a shorter one and
    than other pictures' codes."""

    used: float = pydantic.Field(0.5, ge=0, le=1)
    entropy: float = pydantic.Field(0.5, ge=0, le=1)
    gap: float = 3.3
    recall: float = pydantic.Field(10.0, ge=0)
    prefixes: bool = True
