"""How the model is asked for what a route of its own stands for: with the words that it was trained with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydantic

from mmpt.config import Schema, load_config
from mmpt.document import Part, Text


class Prompts(Schema):
    """The text before what is asked, a part of its own as the `prompt` of training's arrangements is; those of the recipes unless
    said otherwise. Empty: nothing stands before it."""

    speech: str = "say"
    """Before a text that is to be spoken."""
    transcription: str | None = "transcribe"
    """Before a recording whose text is to be written; null: the speech tokenizer's own text decoder reads it instead."""
    image: str = "draw"
    """Before the description of a picture."""
    chat: bool = False
    """Whether it is a user's turn, marked by the chat template that the model was trained with."""
    window: float | None = pydantic.Field(default=None, gt=1)
    """Seconds of a recording that the model reads at once, a longer one being cut at its pauses; null: the longest utterance that
    its speech tokenizer has learned, of a published one 30."""

    def asked(self, prompt: str, part: Part) -> Sequence[Part]:
        """`part` behind the words before it."""
        parts = [Text(prompt), part] if prompt else [part]
        return [replace(one, role="user") for one in parts] if self.chat else parts


def load_prompts(path: Path | None) -> Prompts:
    """Those of a YAML file; None: the default ones. Raises `ConfigError`."""
    return Prompts() if path is None else load_config(path, Prompts)
