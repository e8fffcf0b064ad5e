"""What a person may ask of a generation."""

import pydantic

from mmpt.config import Schema
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.greedy import Greedy
from mmpt.modality import MODALITIES, Modality


class Settings(Schema):
    """What may be written, how much of it, and how it is sampled."""

    outputs: tuple[Modality, ...] = MODALITIES
    """What may be written."""
    max_new_tokens: int = pydantic.Field(default=256, ge=1)
    """Tokens at most, all modalities and the end together."""
    text: Sampler = Greedy()
    """How tokens of text, and special tokens, are sampled."""
    image: Sampler = Greedy()
    """How codes of pictures are sampled."""
    speech: Sampler = Greedy()
    """How codes of speech are sampled."""
    guidance: float = pydantic.Field(default=1.0, ge=0, le=100)
    """Above 1 pictures are drawn by classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): logits
    u + guidance · (c − u), where u does not see the prompt."""
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """(text, speech): so many tokens of text and then so many codes of speech in turn, as GLM-4-Voice (arXiv:2412.02612, section
    3.3) with 13 and 26."""
    max_parts: int = pydantic.Field(default=8, ge=1)
    """Pictures and utterances together, at most."""
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 62)
    """Of the sampling: the same seed, prompt and settings give the same tokens, whatever else is written beside them."""

    frequency_penalty: float = pydantic.Field(default=0.0, ge=-2, le=2)
    """Taken off a token's logit for each time that it was written already."""
    presence_penalty: float = pydantic.Field(default=0.0, ge=-2, le=2)
    """Taken off a token's logit where it was written already."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(id, what is added to its logit)."""
    logprobs: int | None = pydantic.Field(default=None, ge=0, le=20)
    """Log-probabilities of the tokens written, and of so many of the likeliest at each place; null: none."""
    text_grammar: str | None = None
    """What the text keeps to, of `mmpt.inference.text_grammar`; nothing but text is written then."""

    @pydantic.model_validator(mode="after")
    def _outputs(self) -> "Settings":
        if not self.outputs:
            raise ValueError(f"outputs: expected some of {', '.join(MODALITIES)}")
        if self.alternate and not {"text", "speech"} <= set(self.outputs):
            raise ValueError("alternate needs text and speech among the outputs")
        if self.text_grammar is not None and self.outputs != ("text",):
            raise ValueError("text_grammar: it goes with outputs of text alone")
        return self

    def sampler(self, name: str) -> Sampler:
        """That of a modality; special tokens are sampled as text."""
        return {"image": self.image, "speech": self.speech}.get(name, self.text)
