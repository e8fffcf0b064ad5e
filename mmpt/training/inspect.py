"""What a step of a run trains on: its packs, their documents, and what these hold."""

from itertools import groupby
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmpt.config import load_config
from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.tokenizers.text import decode_text, load_text_tokenizer
from mmpt.training.config import TrainingConfig
from mmpt.training.sources import open_loader, open_sources
from mmpt.vocabulary import MODALITIES, SPECIAL, Vocabulary

RECIPE = "recipe.yaml"
SHOWN = 60


def read_recipe(run: Path) -> TrainingConfig:
    """The configuration that a run folder, or a checkpoint, was made with. Raises `ConfigError` naming the file."""
    return load_config(Path(run) / RECIPE, TrainingConfig)


def describe_step(run: Path, step: int) -> list[str]:
    """Lines on the packs of step `step` (from 1) over all ranks; `run` is a run folder or a checkpoint. Raises `ConfigError`
    where there is no such step, or the token shards of the recipe are not there."""
    config = read_recipe(run)
    if not 1 <= step <= config.steps:
        raise ConfigError(f"--batch: {step}, expected a step from 1 to {config.steps}")
    sources, vocabulary = open_sources(config)
    own = Path(run) / "text_tokenizer"  # a finetuned checkpoint has that of its base
    named = own if own.is_dir() else config.text_tokenizer
    text = load_text_tokenizer(named) if named else None
    lines = []
    for number, batch in enumerate(open_loader(config, sources, blank=True).read_step(step), start=1):
        lines.append(f"pack {number}: {batch.input_ids.shape[1]} tokens, {len(batch.document_ids)} documents")
        lines += [f"  {line}" for line in _documents(batch, vocabulary, text)]
    return lines


def _documents(batch: PackedBatch, vocabulary: Vocabulary, text: PreTrainedTokenizerBase | None) -> list[str]:
    ids, weights, edges = batch.input_ids[0].numpy(), batch.weights[0].numpy(), batch.cu_seqlens.tolist()
    lines = []
    for name, first, last in zip(batch.document_ids, edges[:-1], edges[1:], strict=True):
        supervised = int((weights[first:last] > 0).sum())
        own = ids[first:last]
        runs = np.split(own, np.flatnonzero(np.diff(vocabulary.modality(own))) + 1)
        parts = [_part(MODALITIES[vocabulary.modality(run)[0]], run, vocabulary, text) for run in runs]
        lines.append(f"{name}: {last - first} tokens, {supervised} with a loss: {' '.join(parts)}")
    return lines


def _part(modality: str, values: np.ndarray, vocabulary: Vocabulary, text: PreTrainedTokenizerBase | None) -> str:
    if modality == "speech":
        return f"[speech {len(values) / vocabulary.speech_rate:.1f} s]"
    if modality == "image":
        return f"[image {len(values)} codes]"
    if modality == "text" and text is not None:
        shown = decode_text(text, values.tolist())
        return repr(shown if len(shown) <= SHOWN else shown[:SHOWN] + "…")
    if modality == "special":
        names = [SPECIAL[value - vocabulary.special_offset] for value in values]
        runs = [(name, len(list(run))) for name, run in groupby(names)]
        return "".join(f"[{count} features]" if name == "<|feature|>" else name * count for name, count in runs)
    return f"[{modality} {len(values)} tokens]"
