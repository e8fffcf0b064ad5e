"""What an image tokenizer must hold to be of use: bars for its figures."""

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.image.perceptual.lpips import Lpips
from mmpt.tokenizers.image.towers import Tower


class JudgeConfig(Schema):
    """The network in whose features pictures are compared; its name stands in the figures."""

    tower: Tower | None = None
    """A published one, such as `{kind: timm, model: inception_v3.tv_in1k}`; by default convolutions with random weights of a
    fixed seed (as Naeem et al. 2020, arXiv:2002.09797, compare sets of pictures by a random VGG16), which need no download."""
    side: int | None = pydantic.Field(default=None, ge=8)
    """Side in pixels at which it looks; by default the tokenizer's."""
    lpips: Lpips | None = None
    """What tells the distance of two pictures instead of it, such as `{net: alex}`; sets of pictures stay its own."""


class FloorsConfig(Schema):
    """What needs no tokenizer: retrieval by raw pixels, the mean picture, and the nearest picture that was trained on. The
    tokenizer must be better than each by its margin; null: that is not asked."""

    sample: int = pydantic.Field(default=20_000, ge=1)
    """Training pictures that are looked through at most, evenly over all; how many they were is a figure."""
    recall: float | None = pydantic.Field(default=1.0, ge=0)
    """Least points of R@1, picture to text, by embeddings and by codes, above that by the text of the training picture whose
    pixels are nearest."""
    psnr: float | None = pydantic.Field(default=0.5, ge=0)
    """Least dB of what is drawn above the mean picture and above the nearest training picture."""
    features: float | None = pydantic.Field(default=0.02, ge=0, lt=1)
    """Least share by which what is drawn is nearer in the judge's features than either of them."""


class Gates(Schema):
    """What a tokenizer must hold to be of use."""

    used: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Least share of codes in use."""
    entropy: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Least entropy of the codes' use ÷ log of their number."""
    gap: float = 3.3
    """Most points of R@mean, over 1, 5 and 10, that codes may lie below embeddings (SEED, table 1: 2.0 and 3.3)."""
    recall: float = pydantic.Field(default=10.0, ge=0)
    """Least R@mean of the embeddings themselves, in multiples of chance (0.5 where that is less), since codes as bad as bad
    embeddings lie below nothing."""
    prefixes: bool = True
    """Whether each beginning of the codes must draw something nearer to the image than a shorter one and than other images'
    codes."""
    floors: FloorsConfig | None = FloorsConfig()
    """What must be better than doing without a tokenizer; null: not compared."""
    judge: JudgeConfig = JudgeConfig()
    """By what features pictures are compared."""
    rfid: float | None = pydantic.Field(default=None, ge=0)
    """Most Fréchet distance of what is drawn from the pictures, in the judge's features; null: told, not asked."""
    pfid: float | None = pydantic.Field(default=None, ge=0)
    """The same of what is drawn of perturbed codes."""
