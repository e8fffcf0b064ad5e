"""Memory of a recipe on a GPU by its parts, counted over two steps of tensors without contents.

What runs is mmpt's own: the recipe's stages, its backbone with mmpt's kernels, new rows and adapters, its objectives, two steps
of two packs, and the updates by its optimizer up to ZeRO stage 1. A run with 2 layers and one with 3 say what a layer adds, and
so what all of them take. What does not run: DeepSpeed, whose copies and buffers are counted by its rules; other ranks, whose
exchanges leave shapes as they are; encoders of continuous features and their connectors.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import torch
from counted import Borders, Ledger, counting, decoder, places
from peft import PeftModel
from pretended import H100
from shapes import shape
from torch import nn
from transformers import PreTrainedModel

from mmpt.config import load_config
from mmpt.data.loading.packing import PackedBatch
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy as cross_entropy_of_mmpt
from mmpt.model import forward, sequence
from mmpt.model.adaptation import add_adapter
from mmpt.model.new_rows import split_rows
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.engine import mixes, parameter_groups
from mmpt.training.language_model import LanguageModel
from mmpt.training.parts import freeze
from mmpt.training.stages import stages
from mmpt.training.trainer import Wrapped
from mmpt.vocabulary import Vocabulary

RANKS = {"h100_x8": 8, "h100_nodes": 32, "h100_70b": 8}  # GPUs that a recipe says it is for, where there are several
FLOAT = 4
LIVE, PREFETCH, BUCKET = 1e9, 5e7, 5e8
"""Elements that DeepSpeed's ZeRO 3 by default keeps whole at most, fetches ahead, and gathers of gradients before it reduces."""


class Memory(NamedTuple):
    """Bytes: `weights`, `gradients` (float32) and `optimizer` of this rank as they stay; `deepspeed`: its copies and buffers;
    `activations`: the most that a pass or an update holds beside them; `loss`: what of it the loss alone adds."""

    weights: float
    gradients: float
    optimizer: float
    deepspeed: float
    activations: float
    loss: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.deepspeed + self.activations

    def at(self, layers: int, more: "Memory", fewer: int) -> "Memory":
        """With `layers`, from this one with `fewer` and `more` with a layer more."""
        return Memory(*(one + (other - one) * (layers - fewer) for one, other in zip(self, more, strict=True)))


def recipe_stages(path: Path) -> Iterator[tuple[str, TrainingConfig, dict[str, Any], int]]:
    """(name, settings, decoder, text ids) of each stage of a recipe, none of which has run."""
    config = load_config(path, TrainingConfig)
    assert config.backbone is not None and config.backbone.path is not None
    content, text = shape(config.backbone.path)
    for stage in stages(config):
        yield f"{path.stem}{f', {stage.output.name}' if config.stages else ''}", stage, content, text


def memory_of(config: TrainingConfig, content: dict[str, Any], text: int, ranks: int) -> Memory:
    """On each of `ranks` GPUs."""
    fewer, more = (measured(config, {**content, "num_hidden_layers": layers}, text, ranks) for layers in (2, 3))
    return fewer.at(content["num_hidden_layers"], more, 2)


def measured(config: TrainingConfig, content: dict[str, Any], text: int, ranks: int) -> Memory:
    """The same of a run of two steps with all layers of `content`."""
    codes = [8192 if config.image_tokenizer else 0, 16_384 if config.speech_tokenizer else 0]
    vocabulary = Vocabulary(text, "counted", image_codes=codes[0], codes_per_image=32, speech_codes=codes[1], speech_rate=12.5)
    group, stage = config.loader.sequence_parallel, config.zero_stage
    shared = sequence.SequenceGroup(None, 0, group) if group > 1 else None  # pyright: ignore[reportArgumentType]
    world = World(0, ranks, torch.device("cpu"), shared)
    wanted = places(content, config.kernels)
    with counting(H100) as (ledger, _), patch.object(sequence.dist, "all_to_all_single", lambda *given, **options: None):
        trained = prepared(decoder(content, vocabulary.size, config.kernels, wanted), vocabulary, config, world)
        if config.half_weights:  # as DeepSpeed does, new rows and adapters among them
            halve(trained)
        everything = list(trained.parameters())
        learned = [parameter for parameter in everything if parameter.requires_grad]
        ledger.keep(everything)
        optimizer = config.optimizer.build(parameter_groups(trained.saved(), config.optimizer, trained.weights()))
        if stage > 1:  # each gradient is reduced as it comes, and this rank's share of it kept
            for parameter in learned:
                parameter.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
        module = Wrapped(trained, config.optimizer, mixes(config, world), world.device)
        highest = Highest(ledger)
        for step in range(2):
            for number in range(2):
                highest.begin(measure=step == number == 1)
                with patch.object(forward, "weighted_linear_cross_entropy", highest.loss(cross_entropy_of_mmpt)):
                    module(pack(config.loader.pack_tokens, group), 0.0)["next_token"].total.backward()
            highest.begin(measure=step == 1)
            if stage <= 1:
                torch.nn.utils.clip_grad_norm_(learned, config.optimizer.gradient_clip)
                optimizer.step()
                optimizer.zero_grad()
        highest.begin(measure=False)
    weights, size = bytes_of(everything), FLOAT * sum(parameter.numel() for parameter in learned)
    means = [one for parameter in learned for one in config.optimizer.state(parameter.shape, False).values()]
    kept = FLOAT * sum(torch.Size(one).numel() for one in means)
    share = ranks if stage else 1
    return Memory(
        weights / (ranks if stage == 3 else 1),
        size / (ranks if stage > 1 else 1),
        kept / share,
        deepspeed(stage, weights, weights / sum(parameter.numel() for parameter in everything), size / share),
        highest.above,
        highest.in_loss,
    )


def prepared(model: PreTrainedModel, vocabulary: Vocabulary, config: TrainingConfig, world: World) -> LanguageModel:
    """What learns, as `mmpt.training.base` and `mmpt.training.engine` put it together."""
    adapted: PreTrainedModel | PeftModel = model
    if config.frozen:
        tables = split_rows(model, vocabulary.text_size) if config.new_rows else []
        model.requires_grad_(False)
        if config.adapter is not None:
            with patch.object(nn.Module, "to", lambda module, *given, **options: module):  # all of it lies there already
                adapted = add_adapter(model, config.adapter, config.run.seed)
        for table in tables:
            table.requires_grad_(True)
    freeze(adapted.named_parameters(), config.optimizer)
    if config.activation_checkpointing:
        # No dropout is computed twice here, and the state of random numbers has no place among tensors without contents.
        model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    adapted.train()
    return LanguageModel(adapted, vocabulary, config.objectives, world)


def halve(module: nn.Module) -> None:
    """Weights in bfloat16. `Module.to` does not change fake ones in their place."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                if id(weight) not in made:
                    made[id(weight)] = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=weight.requires_grad)
                part._parameters[name] = made[id(weight)]


def deepspeed(stage: int, weights: float, each: float, share: float) -> float:
    """Bytes of DeepSpeed's own: `share`, of what learns on this rank, once more as float32 masters, up to stage 2 once more as
    flat gradients in its step; at stage 3 what is gathered whole of the `weights` of `each` bytes, and a bucket of gradients."""
    if stage == 0:
        return 0.0
    if stage < 3:
        return 2 * share
    return share + min(weights, each * (LIVE + PREFETCH)) + min(weights, each * BUCKET)


class Highest:
    """The most that lived above what a measured stretch began with, and above what its loss began with."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.above, self.in_loss = ledger, 0.0, 0.0
        self._measured, self._before = False, 0

    def begin(self, measure: bool) -> None:
        """End the stretch before this one."""
        self._look()
        self._measured, self._before = measure, self.ledger.now

    def loss(self, function: Callable) -> Callable:
        """`function` with its own peak told apart."""

        def run(*given: Any, **options: Any) -> Any:
            self._look()
            before = self.ledger.now
            found = function(*given, **options)
            if self._measured:
                self.in_loss = max(self.in_loss, self.ledger.peak - before)
            return found

        return run

    def _look(self) -> None:
        peak = self.ledger.since(self._before)
        if self._measured:
            self.above = max(self.above, peak)


def pack(tokens: int, group: int) -> PackedBatch:
    """This rank's stretch of documents of 1,024 tokens, of all of which something is learned."""
    own, documents = tokens // group, Borders([1024] * (tokens // 1024))
    rows = [torch.zeros(1, own, dtype=dtype) for dtype in (torch.int64, torch.int64, torch.float32, torch.int64)]
    return PackedBatch(*rows, cast(Any, documents), (), supervised=torch.arange(own))


def bytes_of(tensors: list[nn.Parameter]) -> float:
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
