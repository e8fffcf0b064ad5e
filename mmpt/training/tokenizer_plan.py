"""What the training of an image tokenizer is going to do and to take, told before it: on so many ranks, of so many pictures."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from mmpt.data.shards.read import DocumentShards
from mmpt.errors import ConfigError
from mmpt.tokenizers.image.augment import kept
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.stages import Stage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.image.tower import TowerModule
from mmpt.training.ahead import MOST
from mmpt.training.examples import MIB
from mmpt.training.memory import FLOAT, GIB
from mmpt.training.scan import ROW, threads
from mmpt.training.specs import ImageSpec
from mmpt.training.stage_kinds import KINDS

FEW, MORE = 2, 4
"""Pictures of the two steps by whose difference the activations of one picture are known."""
TYPICAL = (640, 480)
"""Pixels of a picture before it is made smaller, where it is kept larger than the tokenizer's side."""


class StageNeeds(NamedTuple):
    """Bytes on one rank: `frozen` weights, those that learn, their gradients, the optimizer's state, activations of its share of
    the batch; `checkpoint`: on disk."""

    frozen: float
    learning: float
    gradients: float
    optimizer: float
    activations: float
    checkpoint: float

    @property
    def device(self) -> float:
        return self.frozen + self.learning + self.gradients + self.optimizer + self.activations


def foretell_pictures(spec: ImageSpec, ranks: int, pictures: int | None = None) -> list[str]:
    """What each stage would do and take on each of `ranks` ranks with `pictures` to learn from (null: those of the data), in
    lines. Of published towers the shapes are built, no weight is loaded, and nothing is trained.

    Activations are counted in two steps of a few random pictures on this machine, in the precision that it has; what a frozen
    tower needs for the moment is not counted. Raises `ConfigError` where a batch does not go into the ranks.
    """
    config = spec.tokenizer or ImageTokenizer.load(cast(Path, spec.start)).config
    count = pictures if pictures is not None else counted(spec)
    if count < 1:
        raise ConfigError(f"data: {', '.join(map(str, spec.data))}: no picture")
    model, published = _light(config)
    lines = [f"{count} pictures of {config.side} × {config.side} pixels on {ranks} ranks, towers at rest {_gib(published)} GiB"]
    for name, stage in spec.stages.given.items():
        fit = stage.fit
        if fit.batch_size % ranks:
            raise ConfigError(f"stages.{name}.fit.batch_size is {fit.batch_size}, expected a multiple of {ranks} ranks")
        own = fit.batch_size // ranks
        needs = stage_needs(KINDS[name](model, stage), stage, published, own, ranks)
        parts = ", ".join(f"{part} {_gib(getattr(needs, part))}" for part in needs._fields if part != "checkpoint")
        lines.append(
            f"{name}: {fit.steps} steps of {fit.batch_size} pictures ({own} a rank), {fit.steps * fit.batch_size / count:.2f} "
            f"epochs, {fit.optimizer.kind}; {needs.device / GIB:.2f} GiB on each rank: {parts}; a checkpoint "
            f"{_gib(needs.checkpoint)} GiB, {fit.run.keep} kept"
        )
    return [*lines, *_host(spec, config, count, max(stage.fit.batch_size for stage in spec.stages.given.values()) // ranks)]


def counted(spec: ImageSpec) -> int:
    """Pictures of the data, by the manifests alone."""
    found = sum(DocumentShards(folder).manifest.counts.get("image", 0) for folder in spec.data)
    return found if spec.examples is None else min(found, spec.examples)


def stage_needs(stage: Stage, settings: Any, published: float, batch: int, ranks: int) -> StageNeeds:
    """Of a stage whose towers, of `published` bytes, are stand-ins."""
    fit = settings.fit
    weights = list(stage.parameters())
    learning = [weight for weight in weights if weight.requires_grad]
    apart = fit.optimizer.apart(stage)
    state = sum(
        math.prod(shape) * (1 if key in fit.optimizer.eight_bits else FLOAT)
        for weight in learning
        for key, shape in fit.optimizer.state(weight.shape, id(weight) in apart).items()
    )
    everything = FLOAT * (sum(weight.numel() for weight in weights) + sum(one.numel() for one in stage.buffers()))
    learned = FLOAT * sum(weight.numel() for weight in learning)
    share = {least: 1 / ranks if fit.zero_stage >= least else 1.0 for least in (1, 2)}
    few, more = (_activations(stage, count) for count in (FEW, MORE))
    each = (more - few) / (MORE - FEW)
    activations = max(0.0, few - FEW * each) + each * batch
    checkpoint = published + everything + state
    return StageNeeds(published + everything - learned, learned, learned * share[2], state * share[1], activations, checkpoint)


def _activations(stage: Stage, count: int) -> float:
    """Bytes that the backward pass of a step of `count` pictures would need, its weights aside."""
    tokenizer = stage.tokenizer
    config = tokenizer.config
    draw = torch.Generator().manual_seed(0)
    batch = ImageBatch(
        torch.rand(count, 3, config.side, config.side, generator=draw) * 2 - 1,
        torch.randint(1, config.captions.buckets, (count, config.captions.words), generator=draw),
        torch.full((count, config.figures.codes_per_image), -1),
    )
    stage.train()
    with torch.random.fork_rng(devices=[]):
        return saved_bytes(lambda: stage.loss(batch, 0.99), stage)


def saved_bytes(run: Callable[[], object], module: torch.nn.Module) -> float:
    """Bytes that autograd keeps of `run` for the backward pass, each storage once, without the weights of `module`."""
    own = {weight.untyped_storage()._cdata for weight in module.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}

    def saved(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        run()
    return float(sum(storage.nbytes() for storage in seen.values()))


def _light(config: ImageTokenizerConfig) -> tuple[ImageTokenizer, float]:
    """The tokenizer with stand-ins for its published towers, and the bytes of the weights of those."""
    with _stand_in(config.tower, config) as (tower, size):
        update: dict[str, Any] = {"tower": tower}
        if config.branches is not None and config.branches.target is not None:
            with _stand_in(config.branches.target, config) as (target, more):
                update["branches"] = config.branches.model_copy(update={"target": target})
                size += more
        return ImageTokenizer(config.model_copy(update=update), pretrained=False), size


@contextmanager
def _stand_in(tower: Any, config: ImageTokenizerConfig) -> Iterator[tuple[Any, float]]:
    """A tower that is told by its shapes, and the bytes of its weights; one that learns is itself."""
    if not tower.frozen:
        yield tower, 0.0
        return
    module = tower.build(config.side, False)
    with torch.no_grad():
        places = module(torch.zeros(1, 3, config.side, config.side)).shape[1]
    size = float(sum(one.numel() * one.element_size() for one in module.state_dict().values()))
    stand_in = _StandIn(places, module.width, getattr(module, "embedding_width", 0))
    del module
    gc.collect()
    yield SimpleNamespace(build=lambda side, pretrained: stand_in, frozen=True), size


class _StandIn(TowerModule):
    def __init__(self, places: int, width: int, embedding_width: int) -> None:
        super().__init__()
        self.places, self.width, self.embedding_width = places, width, embedding_width

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(pixels), self.places, self.width)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(pixels), self.embedding_width)


def _host(spec: ImageSpec, config: ImageTokenizerConfig, count: int, batch: int) -> list[str]:
    """Main memory of each rank: what grows with the pictures, and what does not."""
    from PIL import Image

    picture = kept(Image.new("RGB", TYPICAL), config.side, config.aspect, config.augment).nbytes
    places = (ROW.itemsize + 2 * np.dtype(np.int64).itemsize) * count  # where each lies, and the order of two epochs
    cache = min(spec.cache_mib * MIB, count * picture)
    ahead = 2 * min(MOST, threads()) * batch * config.side**2 * 3 * FLOAT
    return [
        f"main memory of each rank beside its weights: {_gib(places)} GiB for where pictures lie ({ROW.itemsize} bytes each) and "
        f"the order of two epochs; {_gib(cache)} GiB of decoded pictures ({picture / 1024:.0f} KiB each, "
        f"{cache / picture / count:.1%} of them, the rest is decoded when a step needs it); {_gib(ahead)} GiB of batches made "
        "ahead"
    ]


def _gib(size: float) -> str:
    return f"{size / GIB:.3f}"
