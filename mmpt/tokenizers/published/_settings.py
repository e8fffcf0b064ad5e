"""Settings that published codecs share."""

from pathlib import Path
from typing import Any, ClassVar, cast

import pydantic

from mmpt.codebooks import Layout
from mmpt.errors import ConfigError
from mmpt.modality import Medium
from mmpt.storage import link_files
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published


class Codec(Published):
    """A codec with several codebooks a frame."""

    tokenizes: ClassVar[Medium] = "speech"

    codebooks: int | None = pydantic.Field(default=None, ge=1)
    """How many of its codebooks are kept, the first ones; null: all."""
    layout: Layout = "flatten"
    """Their order in a sequence: `flatten` frame by frame, `delay` with each codebook a frame later than the one before it
    (MusicGen, arXiv:2306.05284). Every codebook has ids of its own."""

    def figures_of(self, has: int, size: int, frame_rate: float, sample_rate: int) -> SpeechFigures:
        """Of a checkpoint that `has` so many codebooks of `size` codes. Raises `ConfigError` where more are asked for."""
        kept = has if self.codebooks is None else self.codebooks
        if kept > has:
            raise ConfigError(f"published.codebooks is {kept}, the checkpoint has {has}")
        return SpeechFigures(kept * size, frame_rate * kept, sample_rate, kept, self.layout if kept > 1 else "flatten")


def sub_config(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The section of a tokenizer in the configuration of the whole model that it came with, or `config` where it came alone."""
    return config.get(name) or config


class PartOfModel(Published):
    """An image tokenizer that was released inside of a language model: of its checkpoint only the tokenizer's weights are read,
    and imported."""

    tokenizes: ClassVar[Medium] = "image"
    prefixes: ClassVar[tuple[str, ...]] = ("model.vqmodel.", "vqmodel.")

    def files(self, names: list[str], weights: dict[str, str]) -> list[str]:
        needed = {file for name, file in weights.items() if name.startswith(self.prefixes)}
        return [name for name in super().files(names, weights) if name.endswith(".json") or not needed or name in needed]

    def take(self, source: Path, target: Path) -> None:
        """Its own weights and configuration alone, in the format of transformers."""
        from mmpt.tokenizers.quiet import no_progress_bars

        link_files(source, target, ("preprocessor_config.json", "processor_config.json"))
        with no_progress_bars():
            cast(Any, self.load(source)).model.save_pretrained(target)
