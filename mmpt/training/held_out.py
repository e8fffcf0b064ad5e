"""Losses on token shards that are not learned from, by the engine that trains: all ranks read, the training does not change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mmpt.data.cache import Cache
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError, DataError
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.sequence import cut
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.evaluate_config import LOSS
from mmpt.training.language_model import HELD_OUT, LanguageModel
from mmpt.training.trainer import Engine
from mmpt.vocabulary import MODALITIES, Vocabulary


@contextmanager
def at_rest(engine: Engine, world: World) -> Iterator[None]:
    """Inside, the model is in evaluation mode and nothing asks for a gradient; behind it, every module's mode and the random
    numbers are as they were."""
    modes = [(module, module.training) for module in engine.module.modules()]
    devices = [world.device] if world.device.type == "cuda" else []
    try:
        engine.module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for module, training in modes:
            module.training = training


class HeldOut:
    """The shards of `evaluate.shards`, opened. Raises `VocabularyError` and `DataError` where they are not the model's or hold
    nothing, `ConfigError` where a source to learn from is among them."""

    def __init__(self, config: TrainingConfig, vocabulary: Vocabulary, world: World, inputs: FeatureInputs | None) -> None:
        assert config.evaluate is not None
        cache = Cache(config.loader.cache, config.loader.cache_bytes) if config.loader.cache else None
        learned = {source.path.rstrip("/") for source in config.data}
        if both := [name for name, path in config.evaluate.shards.items() if path.rstrip("/") in learned]:
            raise ConfigError(f"evaluate.shards: {', '.join(both)}: these are learned from (data)")
        self._config, self._world, self._inputs = config, world, inputs
        self._sources = {name: TokenShards(path, vocabulary, cache) for name, path in config.evaluate.shards.items()}
        for name, source in self._sources.items():
            if not len(source):
                raise DataError(f"evaluate.shards.{name}: {source.folder}: no document")

    def figures(self, engine: Engine) -> dict[str, float]:
        """Σ weight · nll / Σ weight in nats of all (`loss`) and of each of the shards (by its name), both also for each modality
        that has targets (`loss/text`). Every rank calls it and gets the same bits."""
        found = {name: self._sums(engine, name) for name in self._sources}
        found[LOSS] = torch.stack(list(found.values())).sum(dim=0)
        figures: dict[str, float] = {}
        for name in (LOSS, *self._sources):
            sums, weights = found[name]
            if weights.sum():
                figures[name] = (sums.sum() / weights.sum()).item()
            for modality, total, weight in zip(MODALITIES, sums.tolist(), weights.tolist(), strict=True):
                if weight:
                    figures[f"{name}/{modality}"] = total / weight
        return figures

    def _sums(self, engine: Engine, name: str) -> torch.Tensor:
        """float64 [2, modalities] over all ranks: Σ weight · nll and Σ weight."""
        sums = torch.zeros(2, len(MODALITIES), dtype=torch.float64, device=self._world.device)
        trained: Any = engine.module.trainable
        assert isinstance(trained, LanguageModel)
        with at_rest(engine, self._world):
            for number, (batch,) in enumerate(self._loader(name), start=1):
                self._world.mark(f"measuring {name}, pack {number}")
                batch = batch if self._world.sequence is None else cut(batch, self._world.sequence)
                # Through the engine: under ZeRO 3 a forward pass is one of all ranks, who have as many packs each.
                term = engine(trained.ready(batch), None)[HELD_OUT]
                sums += torch.stack([term.total, term.count])
        return self._world.sum(sums).cpu()

    def _loader(self, name: str) -> Loader:
        source, loader = self._sources[name], self._config.loader
        rank, readers = self._world.reader
        assert self._config.evaluate is not None
        tokens = sum(source.manifest.counts[modality] for modality in MODALITIES)
        return Loader(
            [source],
            mixture=[min(1.0, self._config.evaluate.tokens / max(1, tokens))],
            pack_tokens=loader.pack_tokens,
            packs_per_step=readers,
            max_images=loader.max_images,
            long_documents=loader.long_documents,
            seed=0,  # not the run's: runs of other seeds are compared on the same documents
            rank=rank,
            world_size=readers,
            epochs=1,
            fill=False,
            workers=loader.workers,
            timeout=loader.timeout,
            max_lost=loader.max_lost,
            read_medium=None if self._inputs is None else self._inputs.read,
        )
