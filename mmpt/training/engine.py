"""What is trained under DeepSpeed: its loss as the forward pass, the optimizer that the configuration names, nothing compiled."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.kernels.device import multiplies_bfloat16
from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.model.forward import causal_lm
from mmpt.model.fused import use_kernels
from mmpt.model.hollow import place
from mmpt.model.new_rows import TwoTableEmbedding
from mmpt.tokenizers.terms import Trainable
from mmpt.training.config import TrainerConfig, TrainingConfig
from mmpt.training.deepspeed_section import offloads, with_defaults
from mmpt.training.distributed import World
from mmpt.training.heads import load_heads
from mmpt.training.language_model import LanguageModel, Start
from mmpt.training.optimizers import Optimizer
from mmpt.training.partition import gathered, partition
from mmpt.training.parts import factors, freeze
from mmpt.training.trainer import Engine, Wrapped
from mmpt.vocabulary import Vocabulary


def build_engine(
    model: PreTrainedModel | PeftModel,
    vocabulary: Vocabulary,
    config: TrainingConfig,
    world: World,
    inputs: FeatureInputs | None = None,
    start: Start | None = None,
    checkpoint: Path | None = None,
) -> Engine:
    """The DeepSpeed engine around a `LanguageModel`; `checkpoint`: that which the run goes on from. Raises `ConfigError` where
    DeepSpeed refuses the configuration."""
    _, readers = world.reader
    packs = config.loader.packs_per_step
    if packs % readers:
        shared = "" if world.sequence is None else f" groups of {world.sequence.size}"
        raise ConfigError(f"loader.packs_per_step is {packs}, expected a multiple of the {readers}{shared} ranks")
    freeze(named_weights(model, inputs), config.optimizer)
    if config.activation_checkpointing:
        causal_lm(model).gradient_checkpointing_enable({"use_reentrant": False})
    if config.compile:
        for layer in cast(Any, causal_lm(model).base_model).layers:  # attention is cut up by documents, otherwise with every pack
            layer.mlp.compile(dynamic=True)
    inputs = None if inputs is None else inputs.to(world.device).train()
    place(model, world.device, weights=config.zero_stage < 3)
    model.train()
    if start is not None:
        place(start.model, world.device, weights=config.zero_stage < 3)
        start.to(world.device).eval()

    def fuse() -> None:
        for one in (model,) if start is None else (model, start.model):
            use_kernels(causal_lm(one), config.kernels, world.device, config.compile, gathered)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        trained = LanguageModel(model, vocabulary, config.objectives, world, inputs, start)
    load_heads(trained, config, checkpoint)
    return start_engine(trained, config, packs // readers, world, fuse)


def mixes(config: TrainerConfig, world: World) -> bool:
    """Whether matrix products are taken in bfloat16 by autocast."""
    return config.precision == "bfloat16" or (config.precision == "auto" and multiplies_bfloat16(world.device))


def start_engine(
    trained: Trainable, config: TrainerConfig, accumulated: int, world: World, ready: Callable[[], object] = lambda: None
) -> Engine:
    """The DeepSpeed engine around `trained`; a step takes `accumulated` batches on each rank. `ready` is called when each rank
    has the weights that it keeps, before DeepSpeed puts its hooks around their modules.

    Raises `ConfigError` where DeepSpeed refuses the configuration.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed  # here, because it reads DS_ACCELERATOR, which `world` sets, as it is imported

    # A shared-memory all-reduce for CPU inference, which DeepSpeed would compile for a minute at its first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    module = Wrapped(trained, config.optimizer, mixes(config, world), world.device)
    optimizer = config.optimizer.build(parameter_groups(trained.saved(), config.optimizer, trained.weights()))
    options = deepspeed_options(config, accumulated)
    if config.zero_stage == 3:
        # ZeRO 3 gathers a weight for the forward pass of the module that holds it; the loss reads these in that of `module`.
        for table in trained.read_by_loss():
            deepspeed.zero.register_external_parameter(module, table)
    with _section_refused():
        if config.zero_stage == 3:
            partition(module, options, torch.bfloat16 if config.half_weights else None)
    ready()
    with _section_refused():
        engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=options, dist_init_required=False)
    return cast(Engine, engine)


@contextmanager
def _section_refused() -> Iterator[None]:
    """Turn what DeepSpeed says to wrong values of its section, in any of these ways, into a `ConfigError`."""
    import deepspeed

    try:
        yield
    except (ValueError, AssertionError, TypeError, KeyError, AttributeError, deepspeed.DeepSpeedConfigError) as problem:
        raise ConfigError(f"deepspeed: {type(problem).__name__}: {problem}") from None


def deepspeed_options(config: TrainerConfig, accumulated: int) -> dict[str, Any]:
    """`config.deepspeed` with the keys that mmpt sets. At stage 0 the trainer clips, since DeepSpeed reports no norm there."""
    # torch's own optimizer goes on where its state is offloaded: its fused update has a kernel for CPUs too.
    own = {"zero_force_ds_cpu_optimizer": False} if offloads(config.deepspeed) else {}
    return {
        "steps_per_print": 2**62,
        **own,
        **with_defaults(config.deepspeed),
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulated,
        "gradient_clipping": config.optimizer.gradient_clip if config.zero_stage else 0.0,
    }


def parameter_groups(
    model: nn.Module, optimizer: Optimizer, named: Iterable[tuple[str, nn.Parameter]] | None = None
) -> list[dict[str, Any]]:
    """The optimizer's groups: matrices of linear layers decay; embeddings (and a head tied to them), norms and biases do not.
    `named`: the parameters, where there are others than those of `model`.

    Each has the `factor` on the learning rate of its part and layer of the model, 1 where the optimizer names none, and says
    whether it is one of those that the optimizer treats `apart`.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    embeddings |= {id(module.new) for module in model.modules() if isinstance(module, TwoTableEmbedding)}
    apart = optimizer.apart(model.get_base_model() if isinstance(model, PeftModel) else model)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    weights = dict(model.named_parameters() if named is None else named)
    rates = factors(weights, optimizer)
    for name, parameter in weights.items():
        if parameter.requires_grad:
            decay = optimizer.weight_decay if parameter.ndim >= 2 and id(parameter) not in embeddings else 0.0
            kind = (rates[name], decay, id(parameter) in apart)
            groups.setdefault(kind, []).append(parameter)
    # In a fixed order: ZeRO lays its flat state out by it, and another one would be read from a checkpoint.
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1], item[0][0], item[0][2]))
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "apart": chosen}
        for (factor, decay, chosen), parameters in ordered
    ]
