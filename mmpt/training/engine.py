"""A model under DeepSpeed: the loss as its forward pass, AdamW or Muon as its optimizer, nothing compiled."""

import logging

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.kernels.device import multiplies_bfloat16
from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.model.forward import LossParts, causal_lm, head_tables, weighted_loss
from mmpt.model.fused import use_kernels
from mmpt.model.new_rows import TwoTableEmbedding
from mmpt.model.sequence import SequenceGroup
from mmpt.training.config import OptimizationConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.flops import step_cost
from mmpt.training.muon import MuonAdamW, muon_parameters
from mmpt.training.parts import Part, freeze, part_of
from mmpt.vocabulary import MODALITIES, Vocabulary


class PackedLoss(nn.Module):
    """What DeepSpeed wraps: a pack in, its `LossParts` out. `model` keeps the Hugging Face names of its weights.

    `mixed`: matrix products in bfloat16 by autocast, weights as they are. `inputs`: what makes rows of a pack's media.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        modality_weights: torch.Tensor,
        vocabulary: Vocabulary,
        mixed: bool = False,
        sequence: SequenceGroup | None = None,
        inputs: FeatureInputs | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.modality_weights, self.host_weights = modality_weights, modality_weights.cpu()
        self.vocabulary = vocabulary
        self.mixed, self.sequence, self.inputs = mixed, sequence, inputs

    def forward(self, batch: PackedBatch) -> LossParts:
        with torch.autocast(batch.input_ids.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            return weighted_loss(self.model, batch, self.modality_weights, self.vocabulary, self.sequence, self.inputs)


def build_engine(
    model: PreTrainedModel | PeftModel,
    vocabulary: Vocabulary,
    config: TrainingConfig,
    world: World,
    inputs: FeatureInputs | None = None,
):
    """The DeepSpeed engine around `PackedLoss(model, …)`. Raises `ConfigError` where DeepSpeed refuses the configuration."""
    _, readers = world.reader
    if config.packs_per_step % readers:
        shared = "" if world.sequence is None else f" groups of {world.sequence.size}"
        raise ConfigError(f"packs_per_step is {config.packs_per_step}, expected a multiple of the {readers}{shared} ranks")
    weights = torch.tensor([getattr(config.modality_weights, name) for name in MODALITIES], device=world.device)
    freeze(named_weights(model, inputs), config.parts)
    if config.activation_checkpointing:
        causal_lm(model).gradient_checkpointing_enable({"use_reentrant": False})
    if config.compile:
        for layer in causal_lm(model).base_model.layers:  # attention is cut up by documents, otherwise with every pack
            layer.mlp.compile(dynamic=True)
    inputs = None if inputs is None else inputs.to(world.device).train()
    model = model.to(world.device).train()
    use_kernels(causal_lm(model), config.kernels, world.device, config.compile)
    module = PackedLoss(model, weights, vocabulary, mixes(config, world), world.sequence, inputs)
    module.cost = step_cost(model)
    return start_engine(module, config, config.packs_per_step // readers, config.parts)


def mixes(config: OptimizationConfig, world: World) -> bool:
    """Whether matrix products are taken in bfloat16 by autocast."""
    return config.precision == "bfloat16" or (config.precision == "auto" and multiplies_bfloat16(world.device))


def start_engine(module: nn.Module, config: OptimizationConfig, accumulated: int, parts: dict[Part, float] | None = None):
    """The DeepSpeed engine around `module`, whose `model` holds all weights; a step takes `accumulated` batches on each rank.
    `parts`: factors on the learning rate of some.

    Raises `ConfigError` where DeepSpeed refuses the configuration.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed  # here, because it reads DS_ACCELERATOR, which `world` sets, as it is imported

    # A shared-memory all-reduce for CPU inference, which DeepSpeed would compile for a minute at its first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    muon = config.optimizer == "muon"
    optimizer = (MuonAdamW if muon else torch.optim.AdamW)(
        parameter_groups(module.model, config.weight_decay, parts or {}, getattr(module, "inputs", None), muon),
        lr=config.learning_rate,
        betas=config.betas,
        eps=1e-8,
        fused=True,
    )
    if config.zero_stage == 3 and isinstance(module, PackedLoss):
        for table in head_tables(module.model):  # read by the loss, not by the head's own forward pass
            deepspeed.zero.register_external_parameter(module, table)
    try:
        engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=deepspeed_options(config, accumulated), dist_init_required=False
        )
    except (ValueError, AssertionError, TypeError, KeyError, AttributeError, deepspeed.DeepSpeedConfigError) as problem:
        # Wrong values of its section fail there in any of these ways.
        raise ConfigError(f"deepspeed: {type(problem).__name__}: {problem}") from None
    return engine


def deepspeed_options(config: OptimizationConfig, accumulated: int) -> dict:
    """`config.deepspeed` with the keys that mmpt sets. At stage 0 `update` clips, since DeepSpeed reports no norm there."""
    return {
        "steps_per_print": 2**62,
        **config.deepspeed,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulated,
        "gradient_clipping": config.gradient_clip if config.zero_stage else 0.0,
    }


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    parts: dict[Part, float] | None = None,
    inputs: FeatureInputs | None = None,
    muon: bool = False,
) -> list[dict]:
    """The optimizer's groups: matrices of linear layers decay; embeddings (and a head tied to them), norms and biases do not.

    Each has the `factor` on the learning rate of its part of the model, 1 where `parts` has none, and says whether it is one of
    those that learn by `muon`, where that is asked for.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    embeddings |= {id(module.new) for module in model.modules() if isinstance(module, TwoTableEmbedding)}
    by_muon = muon_parameters(causal_lm(model)) if muon else set()
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in named_weights(model, inputs):
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 and id(parameter) not in embeddings else 0.0
            kind = ((parts or {}).get(part_of(name), 1.0), decay, id(parameter) in by_muon)
            groups.setdefault(kind, []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1], item[0][0], item[0][2]))
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "muon": chosen}
        for (factor, decay, chosen), parameters in ordered
    ]
