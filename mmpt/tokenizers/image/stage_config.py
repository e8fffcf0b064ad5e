"""Settings of the stages in which an image tokenizer is trained; the stages themselves are in `stages`."""

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.image.augment_config import AugmentConfig
from mmpt.tokenizers.image.perceptual import Perceptual


class AdversaryConfig(Schema):
    """A discriminator of patches that what draws is trained against."""

    channels: int = pydantic.Field(default=32, ge=8, multiple_of=8)
    """Of its first layer; PatchGAN's has 64."""
    layers: int = pydantic.Field(default=2, ge=1)
    """Convolutions that halve the side; PatchGAN's 3 see patches of 70 pixels, 2 see 34."""
    start: float = pydantic.Field(default=0.5, ge=0, lt=1)
    """Share of the stage after which it sets in."""
    weight: float = pydantic.Field(default=0.5, ge=0)
    """Length of its gradient in what draws, relative to that of the other terms."""
    features: float = pydantic.Field(default=0.0, ge=0)
    """Weight of the distance of what its layers see."""


class AlignConfig(Schema):
    """Stage I of SEED (Ge et al. 2023, arXiv:2307.08041, section 3.1): the Q-Former, and a tower that is not a published one,
    learn to tell which caption an image has."""

    describe: float = pydantic.Field(default=0.0, ge=0)
    """Weight of the caption written by a small decoder from all states before they are quantised (the captioning loss of BLIP-2,
    Li et al. 2023, arXiv:2301.12597, which SEED leaves out)."""
    match: float = pydantic.Field(default=0.0, ge=0)
    """Weight of telling right pairs of image and caption from those that look right (the matching loss of BLIP-2); what tells
    them is not saved."""
    pixels: float = pydantic.Field(default=0.0, ge=0)
    """Weight of the coarse image drawn from these states, so that a tower from scratch learns more of an image than its caption
    tells; one that was trained on millions knows it."""
    beginnings: float = pydantic.Field(default=0.3, ge=0, le=1)
    """Share of the images that are drawn from the first states alone, a random number of them, so that what says most comes first
    (nested dropout, Rippel et al. 2014, arXiv:1402.0915)."""
    swap: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the states that are another image's where caption and image are made of them: what one tells, others must tell
    too, or no decoder could do without a code that is wrong."""


class PerturbConfig(Schema):
    """Codes that are not quite right, as an LM that errs would give them (RobusTok, Qiu et al. 2025,
    arXiv:2503.08354)."""

    pictures: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Share of the images of which some codes are replaced."""
    codes: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Share of the codes of such an image that are."""
    neighbours: int = pydantic.Field(default=100, ge=1)
    """How many of the nearest entries of the codebook one of is taken instead."""
    until: float | None = pydantic.Field(default=None, gt=0, le=1)
    """Share of `joint` or `quantize` by whose end the perturbed pictures have become none, falling evenly from where quantisation
    sets in, as RobusTok anneals them; by default, and in `draw` and `harden`, they stay."""


class QuantizeConfig(Schema):
    """Stage II of SEED (section 3.2) with its weights: the codebook and both branches learn, tower and Q-Former are frozen."""

    quantizer: float = pydantic.Field(default=5.0, ge=0)
    """Weight of the quantiser's own loss."""
    restore: float = pydantic.Field(default=2.0, ge=0)
    """Weight of what gives back the Q-Former's states (1 − cosine)."""
    embed: float = pydantic.Field(default=0.5, ge=0)
    """Weight of what predicts the image's embedding (mean squared difference of its values)."""
    quantize_from: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the stage for which the states pass unquantised."""
    perturb: PerturbConfig | None = None
    """Some codes are replaced by neighbours before both branches read them; by default none."""


class DrawConfig(Schema):
    """The decoder alone learns to draw."""

    pixels: float = pydantic.Field(default=10.0, ge=0)
    """Weight of the coarse image."""
    tolerance: int = pydantic.Field(default=0, ge=0)
    """Pixels by which each neighbourhood may be moved to where it fits best before it is compared."""
    flow: float = pydantic.Field(default=1.0, ge=0)
    """Weight of what the flow draws from the coarse image."""
    beginnings: float = pydantic.Field(default=0.3, ge=0, le=1)
    """Share of the images of which only a random number of the first codes is given."""
    empty: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Share of the images of which no code is given, for guidance."""
    generated: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Of the images that have codes given by a language model, the share learned from those (the post-training of RobusTok, Qiu
    et al. 2025)."""
    perturb: PerturbConfig | None = None
    """Some codes are replaced by neighbours; by default none."""
    augment: AugmentConfig | None = None
    """How this stage's pictures are varied: no caption must fit them. By default as in all stages."""
    perceptual: Perceptual | None = None
    """How the drawn picture is compared beside its pixels; by default not."""
    adversary: AdversaryConfig | None = None
    """What it is drawn against; by default nothing."""


class JointConfig(Schema):
    """All parts at once, for little data and a tower from scratch."""

    pixels: float = pydantic.Field(default=10.0, ge=0)
    """Weight of the coarse image drawn from the codes."""
    tolerance: int = pydantic.Field(default=0, ge=0)
    """Pixels by which each neighbourhood may be moved to where it fits best before it is compared."""
    contrast: float = pydantic.Field(default=0.05, ge=0)
    """Weight of images against captions."""
    predict: float = pydantic.Field(default=0.2, ge=0)
    """Weight of what each query holds against what the text tower predicts from the caption alone, which keeps out of the codes
    what no caption could tell."""
    describe: float = pydantic.Field(default=0.1, ge=0)
    """Weight of the caption, written by a small decoder from the codes."""
    beginnings: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Share of the images that are drawn from a random number of the first codes alone, so that what says most comes first
    (nested dropout, Rippel et al. 2014, arXiv:1402.0915); of several codebooks, also from the first books alone."""
    quantize_from: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Share of the stage for which the states pass unquantised."""
    perturb: PerturbConfig | None = None
    """Some codes are replaced by neighbours before the image and the caption are made of them; by default none."""
    perceptual: Perceptual | None = None
    """How the drawn picture is compared beside its pixels; by default not."""
    adversary: AdversaryConfig | None = None
    """What it is drawn against; by default nothing."""
