"""The token shards of a training configuration, all of one vocabulary, and the loader over them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch

from mmpt.chat import ChatFormat
from mmpt.data.cache import Cache
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium
from mmpt.errors import ConfigError
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.prompts import Prompts, arranged_prompts
from mmpt.training.config import TrainingConfig
from mmpt.training.mixture import mixture_of
from mmpt.vocabulary import Vocabulary, check_same


def open_sources(config: TrainingConfig) -> tuple[list[TokenShards], Vocabulary]:
    """The sources of `config.data`, and their vocabulary.

    Raises `VocabularyError` naming two sources that disagree, and `ConfigError` naming each tokenizer folder that does not exist.
    """
    missing = [f"{name}: {folder}: no such folder" for name, folder in config.tokenizers.items() if not folder.is_dir()]
    if missing:
        raise ConfigError("\n".join(missing))
    cache = Cache(config.loader.cache, config.loader.cache_bytes) if config.loader.cache else None
    sources = [TokenShards(source.path, cache=cache) for source in config.data]
    for source in sources[1:]:
        check_same(sources[0].vocabulary, str(sources[0].folder), source.vocabulary, str(source.folder))
    return sources, sources[0].vocabulary


def chat_format(config: TrainingConfig, sources: Sequence[TokenShards]) -> ChatFormat | None:
    """How the conversations of the sources are marked, or where none has any, those of the checkpoint that the run starts from.
    Raises `ConfigError` naming two sources that disagree."""
    found = [(one.folder, ChatFormat(**one.manifest.built["chat"])) for one in sources if "chat" in one.manifest.built]
    for folder, form in found[1:]:
        if form != found[0][1]:
            raise ConfigError(f"{found[0][0]} and {folder}: the turns of their conversations are marked in different ways (chat)")
    if found:
        return found[0][1]
    if config.base is not None:
        return ChatFormat.load(config.base)
    path = config.backbone.path if config.backbone is not None else None
    return ChatFormat.load(Path(path).parent) if path is not None else None  # a checkpoint's own backbone/


def trained_prompts(config: TrainingConfig, sources: Sequence[TokenShards]) -> Prompts | None:
    """The words with which the sources ask for speech, text and pictures, or where none does, those of the checkpoint that the
    run starts from."""
    found = arranged_prompts(one.manifest.built for one in sources)
    return found if found is not None or config.base is None else Prompts.load(config.base)


def sample(sources: Sequence[TokenShards], count: int = 2000) -> Iterator[Sequence[int]]:
    """Ids of up to `count` documents, evenly over the sources and over each; a source's share is not made up by others."""
    for source in sources:
        for number in range(0, len(source), max(1, len(source) * len(sources) // count)):
            yield cast(Sequence[int], source[number].ids)


def open_loader(
    config: TrainingConfig,
    sources: list[TokenShards],
    *,
    rank: int = 0,
    world_size: int = 1,
    state: dict | None = None,
    inputs: FeatureInputs | None = None,
    blank: bool = False,
) -> Loader:
    """The loader of a run; `state` is that of a checkpoint. `inputs` reads the media; `blank`: they are not read.

    Raises as `Loader` does, and `ConfigError` on budgets.
    """
    loader = config.loader
    mixed = mixture_of(config, sources)
    return Loader(
        mixed.sources,
        mixture=mixed.mixture,
        phases=mixed.phases,
        loss=mixed.loss,
        pack_tokens=loader.pack_tokens,
        packs_per_step=loader.packs_per_step,
        ramp=[(one.until, one.packs) for one in loader.ramp],
        max_images=loader.max_images,
        long_documents=loader.long_documents,
        seed=config.run.seed,
        rank=rank,
        world_size=world_size,
        state=state,
        workers=loader.workers,
        timeout=loader.timeout,
        max_lost=loader.max_lost,
        read_medium=None if blank else _no_media if inputs is None else inputs.read,
    )


def _no_media(medium: Medium) -> torch.Tensor:
    raise ConfigError(f"features.{medium.kind}: missing; the data have media of this kind that enter as features")
