"""Configuration of the image tokenizer: one section for each of its parts."""

from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.image.augment_config import Aspect, AugmentConfig
from mmpt.tokenizers.image.latents import Latents
from mmpt.tokenizers.image.renderers import Renderer
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.image.text_encoders import TextEncoder
from mmpt.tokenizers.image.text_encoders.words import Words
from mmpt.tokenizers.image.towers import Tower
from mmpt.tokenizers.image.towers.open_clip import OpenClip
from mmpt.tokenizers.quantizers import Quantizer

FORMAT = "mmpt-image-tokenizer/3"
MOST = 8192
"""Values of an image's vectors up to which codes are refined: the square of that is held, 256 MiB."""


class QformerConfig(Schema):
    """The causal Q-Former between the tower and the codes (SEED, Ge et al. 2023, arXiv:2307.08041, section 3.1)."""

    queries: int
    """Learned queries; each gives one code."""
    width: int
    """Values of a state."""
    depth: int
    """Transformer blocks."""
    heads: int
    """Of each block's attention; a divisor of `width`."""
    sharpness: float = 4.0
    """Cross-attention starts with its logits this number squared times their usual size, so that queries look at different
    positions from the first step."""
    causal: bool = True
    """A query sees earlier queries alone; without, all."""
    summary: Literal["last", "mean"] = "last"
    """Which states are compared with captions: the last, or the mean of all."""


class BranchConfig(Schema):
    """What SEED trains beside the codebook (section 3.2): one branch that gives back the Q-Former's states from the codes, and
    one that predicts the image's embedding by a reverse Q-Former."""

    depth: int = pydantic.Field(default=4, ge=1)
    """Blocks of either branch over the vectors of the codes."""
    reverse_depth: int = pydantic.Field(default=4, ge=1)
    """Blocks of the reverse Q-Former, which has one query."""
    target: OpenClip | None = None
    """The model whose image embedding is predicted, as a renderer takes it; by default the tokenizer's own, by which images and
    captions are compared."""


class PixelFlowConfig(Schema):
    """Flow matching over pixels (Lipman et al. 2022, arXiv:2210.02747): a finer image drawn from the coarse one."""

    dim: int = pydantic.Field(default=96, ge=8)
    """Channels of the convolutional blocks."""
    blocks: int = pydantic.Field(default=6, ge=1)
    """How many of them."""
    patch: int = pydantic.Field(default=2, ge=1)
    """Side in pixels, a divisor of `side`, of what becomes one position."""
    steps: int = pydantic.Field(default=8, ge=1)
    """Euler steps from noise to image."""
    guidance: float = pydantic.Field(default=0.5, ge=0)
    """How far each step goes beyond what the codes change; 0: none, half the work."""


class DecoderConfig(Schema):
    """The way from codes back to pixels."""

    patch: int
    """Side in pixels, a divisor of `side`, of what is drawn of one state; one convolution for each of its prime factors."""
    width: int
    """Values of a state."""
    depth: int
    """Transformer blocks over the states; 0 is allowed."""
    heads: int
    """Of each block's attention; a divisor of `width`."""
    join: Literal["linear", "attention"] = "linear"
    """How states are made of the codes: all of them by one linear map of all codes, which learns fastest and grows with codes ×
    states; or each begins as its position, with the codes beside it in the blocks (TiTok, Yu et al. 2024, arXiv:2406.07550,
    section 3.2), which does not grow."""
    flow: PixelFlowConfig | None = None
    """What draws a finer image from that one; by default nothing does."""
    latents: Latents | None = None
    """A published autoencoder whose latents are learned and drawn in place of pixels (`patch` and `flow.patch` are then
    counted in latents); by default none."""

    def canvas(self, side: int) -> tuple[int, int]:
        """Channels and side of what is drawn for images of `side` pixels."""
        return (self.latents.channels, side // self.latents.factor) if self.latents else (3, side)


class CaptionConfig(Schema):
    """The text tower over captions, used in training only."""

    encoder: TextEncoder = Words()
    """What reads captions."""
    words: int = 32
    """Most words of a caption, or tokens of a published encoder."""
    buckets: int = 16384
    """Ids into which words, or such tokens where they are written, are hashed."""
    width: int = 128
    """Values of a state."""
    depth: int = 2
    """Transformer blocks."""
    heads: int = 4
    """Of each block's attention; a divisor of `width`."""
    dim: int = 64
    """Size of the space in which images and captions are compared."""


class ImageTokenizerConfig(Schema):
    """An image tokenizer: tower → Q-Former → quantiser → decoder."""

    side: int
    """Images are made this many pixels square."""
    aspect: Aspect = "squash"
    """How: `squash` loses no part of an image and changes its shape, `crop` takes the largest square in its middle, `pad` lays it
    whole on a white square."""
    tower: Tower
    """What makes features of pixels."""
    qformer: QformerConfig
    """What makes a short causal sequence of the features."""
    quantizer: Quantizer
    """What makes codes of that sequence: one for each query, or, of `residual`, one of each of its stages: then all queries'
    codes of the first stage come first, which captions are compared with, and those of the others, which only the image needs,
    after them (several codes of a place: RQ-VAE, Lee et al. 2022, arXiv:2203.01941; UniTok, Ma et al. 2025, arXiv:2502.20321)."""
    decoder: DecoderConfig
    """What makes pixels of codes."""
    refine: int = pydantic.Field(default=0, ge=0)
    """Rounds of a search, where images are encoded, for codes after the first codebook's of which the decoder draws the image
    more exactly (`refine.Refiner`); each costs about three times the drawing of an image. 0: the codes nearest the states."""
    branches: BranchConfig | None = None
    """What stage II of SEED trains beside the codebook, and a renderer of embeddings needs."""
    captions: CaptionConfig = CaptionConfig()
    """The text side of the training."""
    augment: AugmentConfig = AugmentConfig()
    """How training images are varied."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the matrix products in training, bf16 only where the device has instructions for it; codes are always chosen in
    float32."""
    renderer: Renderer = Own()
    """What draws the images that codes stand for, where a person is to see them."""

    @property
    def figures(self) -> ImageFigures:
        """How many codes, and how many for a picture."""
        depth = self.quantizer.depth
        return ImageFigures(self.quantizer.codes, self.qformer.queries * depth, self.side, depth)

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> "ImageTokenizerConfig":
        problems = self.tower.problems(self.side)
        sections = {"qformer": self.qformer, "decoder": self.decoder, "captions": self.captions}
        for name, section in sections.items():
            if section.width % section.heads:
                problems.append(f"{name}.width {section.width} is no multiple of {name}.heads {section.heads}")
        side, what = self.decoder.canvas(self.side)[1], "side"
        if latents := self.decoder.latents:
            what = "the side of the latents,"
            if self.side % latents.factor:
                problems.append(f"decoder.latents.factor {latents.factor} does not divide side {self.side}")
        patches = {"decoder": self.decoder.patch}
        if self.decoder.flow:
            patches["decoder.flow"] = self.decoder.flow.patch
        for name, patch in patches.items():
            if patch < 1 or side % patch:
                problems.append(f"{name}.patch {patch} does not divide {what} {side}")
        if self.decoder.join == "attention" and not self.decoder.depth:
            problems.append("decoder.join attention needs decoder.depth of 1 at least")
        if not self.quantizer.codes:
            problems.append(f"quantizer.kind {self.quantizer.kind} gives no codes")
        if self.refine and self.quantizer.depth < 2:
            problems.append("refine needs a quantizer of several codebooks, such as kind residual with stages of 2 at least")
        if self.refine and self.qformer.queries * self.quantizer.dim > MOST:
            problems.append(f"refine needs qformer.queries × quantizer.dim of {MOST} at most")
        problems += self.renderer.problems(self.branches is not None)
        if problems:
            raise ValueError("; ".join(problems))
        return self
