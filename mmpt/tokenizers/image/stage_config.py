"""Settings of the stages in which an image tokenizer is trained; the stages themselves are in `stages`."""

import pydantic

from mmpt.config import Schema


class AlignConfig(Schema):
    """Stage I of SEED (Ge et al. 2023, section 3.1): the Q-Former, and a tower that is not a published one, learn to tell which
    caption a picture has. `describe`: weight of the caption written by a small decoder from all states before they are quantised
    (the captioning loss of BLIP-2, which SEED leaves out). `pixels`: weight of the coarse picture drawn from these states, so
    that a tower from scratch learns more of a picture than its caption tells; one that was trained on millions knows it. Of the
    share `beginnings` of the pictures it is drawn from the first states alone, a random number of them, so that what says most
    comes first (nested dropout, Rippel et al. 2014). The share `swap` of the states is another picture's where caption and
    picture are made of them: what one tells, others must tell too, or no decoder could do without a code that is wrong."""

    describe: float = pydantic.Field(0.0, ge=0)
    pixels: float = pydantic.Field(0.0, ge=0)
    beginnings: float = pydantic.Field(0.3, ge=0, le=1)
    swap: float = pydantic.Field(0.0, ge=0, lt=1)


class QuantizeConfig(Schema):
    """Stage II of SEED (section 3.2) with its weights: the codebook, what gives back the Q-Former's states (1 − cosine), and
    what predicts the picture's embedding (mean squared difference of its values). Tower and Q-Former rest. The states pass
    unquantised for the share `quantize_from` of the stage."""

    quantizer: float = pydantic.Field(5.0, ge=0)
    restore: float = pydantic.Field(2.0, ge=0)
    embed: float = pydantic.Field(0.5, ge=0)
    quantize_from: float = pydantic.Field(0.0, ge=0, lt=1)


class PerturbConfig(Schema):
    """In the share `pictures` of the pictures, the share `codes` of their codes are replaced by one of the `neighbours` nearest
    entries of the codebook (RobusTok, Qiu et al. 2025): what an LM that errs would give."""

    pictures: float = pydantic.Field(0.5, ge=0, le=1)
    codes: float = pydantic.Field(0.1, ge=0, le=1)
    neighbours: int = pydantic.Field(100, ge=1)


class DrawConfig(Schema):
    """The decoder alone learns to draw. `pixels` weighs the coarse picture (see `pixel_loss` for `tolerance`), `flow` what is
    drawn from it. Of the share `beginnings` of the pictures only a random number of the first codes is given, of the share
    `empty` none, for guidance. Of the pictures that have codes given by a language model, the share `generated` is learned from
    those (the post-training of RobusTok, Qiu et al. 2025)."""

    pixels: float = pydantic.Field(10.0, ge=0)
    tolerance: int = pydantic.Field(0, ge=0)
    flow: float = pydantic.Field(1.0, ge=0)
    beginnings: float = pydantic.Field(0.3, ge=0, le=1)
    empty: float = pydantic.Field(0.1, ge=0, le=1)
    generated: float = pydantic.Field(0.5, ge=0, le=1)
    perturb: PerturbConfig | None = None


class JointConfig(Schema):
    """All parts at once, for little data and a tower from scratch. `pixels` and `tolerance`: see `pixel_loss`; `contrast`:
    pictures against captions; `predict`: what each query holds against what the text tower predicts from the caption alone,
    which keeps out of the codes what no caption could tell; `describe`: the caption, written by a small decoder from the codes.
    """

    pixels: float = pydantic.Field(10.0, ge=0)
    tolerance: int = pydantic.Field(0, ge=0)
    contrast: float = pydantic.Field(0.05, ge=0)
    predict: float = pydantic.Field(0.2, ge=0)
    describe: float = pydantic.Field(0.1, ge=0)
    quantize_from: float = pydantic.Field(0.1, ge=0, lt=1)
