"""How a checkpoint is asked to speak, to write down what it hears, and to draw: with the words that it was trained with."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from mmpt.checkpoint_section import CheckpointSection
from mmpt.config import load_config
from mmpt.document import Part, Text

_ORDERS = {("text", "speech"): "speech", ("speech", "text"): "transcription", ("text", "image"): "image"}


class Prompts(CheckpointSection):
    """The text before what is asked, a part of its own as the `prompt` of training's arrangements is; those of the recipes unless
    said otherwise. Empty: nothing stands before it."""

    file = "prompts.json"
    schema_format = "mmpt-prompts/1"

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


def chosen_prompts(path: Path | None, checkpoint: Path) -> Prompts:
    """Those of the YAML file `path`, else those that the checkpoint was trained with, else those of the recipes. Raises
    `ConfigError` and `CheckpointError`."""
    return load_config(path, Prompts) if path is not None else Prompts.load(checkpoint) or Prompts()


def arranged_prompts(built: Iterable[dict[str, Any]]) -> Prompts | None:
    """The words of arrangements of text and one medium, of what token shards say of how they were `built`: the first that are
    not empty; None where there is no such arrangement."""
    found: dict[str, str] = {}
    for one in built:
        for arrangement in one.get("to_tokens", {}).get("arrangements", ()):
            name = _ORDERS.get(tuple(arrangement["order"]))
            if name and not found.get(name):
                found[name] = arrangement["prompt"]
    return Prompts.model_validate(found) if found else None
