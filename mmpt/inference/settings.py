"""What a person may ask of a generation."""

from typing import Literal

import pydantic

from mmpt.config import Schema

Output = Literal["text", "image", "speech"]
OUTPUTS: tuple[Output, ...] = ("text", "image", "speech")


class Sampling(Schema):
    """Greedy at `temperature` 0; else one of the `top_k` likeliest (0: all), of those the fewest whose probabilities reach
    `top_p`."""

    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)


class Settings(Schema):
    """`outputs`: what may be written. `max_new_tokens` counts all of it, its end included. `text`, `image` and `speech` say how
    each kind of id is sampled; marks are sampled as text. `guidance` above 1 draws pictures by classifier-free guidance (Ho and
    Salimans 2022, arXiv:2207.12598): logits u + guidance · (c − u), where u does not see the prompt. `alternate`: (text, speech),
    so many tokens of text and then so many codes of speech in turn, as GLM-4-Voice (arXiv:2412.02612, section 3.3) with 13 and
    26. `max_parts`: pictures and utterances together."""

    outputs: tuple[Output, ...] = OUTPUTS
    max_new_tokens: int = pydantic.Field(default=256, ge=1)
    text: Sampling = Sampling()
    image: Sampling = Sampling()
    speech: Sampling = Sampling()
    guidance: float = pydantic.Field(default=1.0, ge=0, le=100)
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    max_parts: int = pydantic.Field(default=8, ge=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 62)

    @pydantic.model_validator(mode="after")
    def _outputs(self) -> "Settings":
        if not self.outputs:
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}")
        if self.alternate and not {"text", "speech"} <= set(self.outputs):
            raise ValueError("alternate needs text and speech among the outputs")
        return self

    def sampling(self, name: str) -> Sampling:
        """That of a kind of id."""
        return getattr(self, name if name in OUTPUTS else "text")
