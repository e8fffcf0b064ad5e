"""Every tokenizer that can be used, with its figures: the published ones, and those of specifications and folders."""

import inspect
from collections.abc import Sequence
from pathlib import Path

from mmpt.catalogue import source
from mmpt.config import load_config
from mmpt.errors import ConfigError
from mmpt.tokenizers.figures import Figures, SpeechFigures
from mmpt.tokenizers.image.config import QformerConfig
from mmpt.tokenizers.kind import tokenizer_figures
from mmpt.tokenizers.published import Published
from mmpt.tokenizers.published_folder import ImportSpec
from mmpt.training.specs import ImageSpec, SpeechSpec, TokenizerSpec

HEAD = ("tokenizer", "of", "codes", "codebooks", "a second or picture", "bits", "Hz or pixels", "source", "weights")


def tokenizers_table(paths: Sequence[Path] = ()) -> list[tuple[str, ...]]:
    """Rows of all published tokenizers as they were released, and of `paths`: specifications (what they train, or take over) and
    tokenizers' folders; specifications of other things are left out. The first row names the columns.

    Raises `ConfigError` or `CheckpointError` where a path is neither.
    """
    kinds = [Published.member(kind) for kind in Published.names()]
    rows = [_published(kind.model_construct()) for kind in kinds]
    return [HEAD, *rows, *(row for path in paths for row in _of_path(path))]


def _published(settings: Published, name: str = "") -> tuple[str, ...]:
    known = type(settings)
    model = settings.model if settings.model_fields_set else known.model_fields["model"].default
    weights = ", ".join([model, *known.beside])
    return _row(name or settings.kind, settings.figures(known.released), source(inspect.getdoc(known) or ""), weights)


def _of_path(path: Path) -> list[tuple[str, ...]]:
    if path.is_dir():
        return [_row(str(path), tokenizer_figures(path), "–", str(path))]
    if path.suffix != ".yaml":
        raise ConfigError(f"{path}: expected a specification (.yaml) or a tokenizer's folder")
    if path.parent.name == "published":
        return [_published(load_config(path, ImportSpec).published, str(path))]
    spec = load_config(path, TokenizerSpec).root
    if isinstance(spec, SpeechSpec) and spec.tokenizer.quantizer.codes:
        paper = source(inspect.getdoc(type(spec.tokenizer.encoder)) or "")
        return [_row(str(path), spec.tokenizer.figures, paper, "tokenizers/train.py")]
    if isinstance(spec, ImageSpec) and spec.tokenizer:
        return [_row(str(path), spec.tokenizer.figures, source(inspect.getdoc(QformerConfig) or ""), "tokenizers/train.py")]
    return []


def _row(name: str, figures: Figures, paper: str, weights: str) -> tuple[str, ...]:
    if isinstance(figures, SpeechFigures):
        of = ("speech", f"{figures.codes:,}", str(figures.codebooks), f"{figures.rate:g}", f"{figures.bits:,.0f}")
        return (name, *of, f"{figures.sample_rate:,}", paper, weights)
    of = ("image", f"{figures.codes:,}", "1", f"{figures.codes_per_image:,}", f"{figures.bits:,.0f}")
    return (name, *of, f"{figures.side} × {figures.side}", paper, weights)
