"""Writers: what answers the prompts of a rewriting.

writer: {kind: transformers, model: HuggingFaceTB/SmolLM2-1.7B-Instruct}
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import pydantic

from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.methods import Method


class Writer(Method):
    """A model that answers, wherever it runs."""

    key: ClassVar[str] = "writer"
    side_by_side: ClassVar[bool] = False
    """Whether an answer may depend, by rounding or chance, on what is answered beside it."""

    batch: int = pydantic.Field(default=16, ge=1)
    """Prompts that are answered side by side."""
    max_new_tokens: int = pydantic.Field(default=512, ge=1)
    """Tokens of an answer at most."""
    temperature: float = pydantic.Field(default=0.0, ge=0)
    """0: the likeliest token each time; above, drawn."""
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    """Drawn among the fewest tokens that make up this probability."""
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 31)
    """What is drawn with."""

    @abstractmethod
    def write(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """An answer to each of at most `batch` prompts. Raises `ConfigError` where nothing can be answered at all."""

    @abstractmethod
    def model_state(self) -> str:
        """What tells the model from others that answer otherwise under the same settings."""

    def identity(self) -> str:
        """All that an answer depends on besides its prompt, as a hash: under another one answers are asked for anew."""
        settings = {name: getattr(self, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}
        said = json.dumps([self.kind, self.model_state(), settings], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def seeds(self, prompts: Sequence[Prompt]) -> list[int]:
        """A seed for each prompt, of it alone: what is answered does not depend on where it stands."""
        digests = (hashlib.sha256(f"{self.seed} {prompt.key()}".encode()).digest() for prompt in prompts)
        return [int.from_bytes(digest[:7], "big") for digest in digests]
