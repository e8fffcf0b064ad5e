"""A small encoder from scratch."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.speech.encoders import Encoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.config import SpeechConfig
    from mmpt.tokenizers.speech.encoders._small import SmallEncoder
    from mmpt.tokenizers.speech.recognizer import Recognizer


class Small(Encoder):
    """A small encoder from scratch in the shape of GLM-4-Voice's speech tokenizer (Zeng et al. 2024, arXiv:2412.02612, section
    3.1): convolutions and transformer layers, average pooling, the quantiser, further layers, and a text decoder."""

    dim: int = pydantic.Field(default=128, ge=8)
    """Values of a state, everywhere but at the quantiser."""
    heads: int = pydantic.Field(default=4, ge=1)
    """Of each layer's attention."""
    conv_blocks: int = pydantic.Field(default=3, ge=0)
    """Convolutional blocks at 50 Hz."""
    layers_before: int = pydantic.Field(default=0, ge=0)
    """Transformer layers at 50 Hz, before the pooling."""
    layers_pooled: int = pydantic.Field(default=2, ge=0)
    """Transformer layers at the rate of the codes, between the pooling and the quantiser."""
    layers_after: int = pydantic.Field(default=2, ge=0)
    """Transformer layers behind the quantiser, which the text decoder looks at."""
    text_layers: int = pydantic.Field(default=2, ge=1)
    """Layers of the text decoder."""
    attention: int = pydantic.Field(default=6, ge=0)
    """How many codes a state before the quantiser may look to either side."""
    block: int | None = pydantic.Field(default=None, ge=1)
    """With it, codes are final in blocks of that many: convolutions are causal, and attention sees its own block and what lies
    before, never a later block. Without, both sides are seen."""
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Of the transformer layers, in training."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Small":
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise ValueError(f"dim {self.dim} does not give each of {self.heads} heads an even number of values")
        return self

    def build(self, config: "SpeechConfig") -> "SmallEncoder":
        from mmpt.tokenizers.speech.encoders._small import SmallEncoder

        return SmallEncoder(config, self)

    def build_recognizer(self, config: "SpeechConfig", text_size: int) -> "Recognizer":
        from mmpt.tokenizers.speech.recognizer import Recognizer
        from mmpt.tokenizers.speech.text_decoder import SmallTextDecoder

        encoder = self.build(config)
        return Recognizer(encoder, SmallTextDecoder(text_size, self.dim, self.heads, self.text_layers, self.dropout))
