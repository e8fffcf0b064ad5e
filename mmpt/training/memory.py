"""What a run takes in memory, in bytes on one rank, counted before any weight has a value.

Weights, gradients and the optimizer's state are counted to the byte (DeepSpeed pads a part by a few). Gathered weights are what
ZeRO 3 may hold whole at one time (`stage3_max_live_parameters`). Activations are an estimate from the decoder's widths.
"""

import math
from collections import Counter
from typing import NamedTuple

from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.model.forward import causal_lm
from mmpt.model.four_bits import BYTES, FourBitLinear
from mmpt.training.config import TrainingConfig
from mmpt.training.deepspeed_section import offloads
from mmpt.training.parts import Part, factors, part_of

GIB = 2**30
FLOAT = 4
LIVE = 10**9
"""DeepSpeed's default of `stage3_max_live_parameters`."""


class Counts(NamedTuple):
    """Parameters by part, those of them in four bits, those that learn, the bytes that the optimizer keeps of each part, the
    numbers of the largest weight."""

    total: Counter[Part]
    packed: Counter[Part]
    trained: Counter[Part]
    kept: Counter[Part]
    largest: int


class Memory(NamedTuple):
    """Bytes on one rank. `weights`, `gradients`, `optimizer`: by part; `gathered`: whole weights at one time; `activations`: of a
    pack; `loading`: beside its weights, while they come; `saving`: of copies, while a checkpoint is written; `offloaded`: whether
    the optimizer's part lies in main memory."""

    weights: dict[Part, float]
    gradients: dict[Part, float]
    optimizer: dict[Part, float]
    gathered: float
    activations: float
    loading: float
    saving: float
    offloaded: bool = False

    @property
    def kept(self) -> float:
        """On its device, from the first step to the last."""
        optimizer = 0.0 if self.offloaded else sum(self.optimizer.values())
        return sum(self.weights.values()) + sum(self.gradients.values()) + optimizer

    @property
    def host(self) -> float:
        """At most in main memory, on a machine without a GPU: the largest of the beginning, a step, and a checkpoint."""
        kept = self.kept + (sum(self.optimizer.values()) if self.offloaded else 0.0)
        return max(sum(self.weights.values()) + self.loading, kept + self.gathered + self.activations, kept + self.saving)


def counts(model: PreTrainedModel | PeftModel, config: TrainingConfig, inputs: FeatureInputs | None = None) -> Counts:
    """Of a model that no engine has cut up yet, hollow or not."""
    total, packed, trained, kept, largest = Counter(), Counter(), Counter(), Counter(), 0
    optimizer, apart = config.optimizer, config.optimizer.apart(causal_lm(model))
    weights = dict(named_weights(model, inputs))
    rates = factors(weights, optimizer)
    for name, parameter in weights.items():
        part = part_of(name)
        total[part] += parameter.numel()
        largest = max(largest, parameter.numel())
        if parameter.requires_grad and rates[name] > 0:
            trained[part] += parameter.numel()
            state = optimizer.state(parameter.shape, id(parameter) in apart)
            kept[part] += sum(math.prod(shape) * (1 if key in optimizer.eight_bits else FLOAT) for key, shape in state.items())
    for module in model.modules():
        if isinstance(module, FourBitLinear):
            packed["layers"] += module.numbers
            largest = max(largest, module.numbers)
    return Counts(total + packed, packed, trained, kept, largest)


def memory(model: PreTrainedModel | PeftModel, config: TrainingConfig, ranks: int, inputs: FeatureInputs | None = None) -> Memory:
    """Of each of `ranks` ranks under the run's ZeRO stage."""
    found, stage = counts(model, config, inputs), config.zero_stage
    weight, master = (2, FLOAT) if config.half_weights else (FLOAT, 0)
    share = {least: 1 / ranks if stage >= least else 1.0 for least in (1, 2, 3)}
    weights: dict[Part, float] = {
        part: (number - found.packed[part]) * weight * share[3] + found.packed[part] * BYTES
        for part, number in found.total.items()
    }
    # Those of bfloat16 weights are added up in float32.
    gradients: dict[Part, float] = {part: number * FLOAT * share[2] for part, number in found.trained.items()}
    state: dict[Part, float] = {part: (found.kept[part] + number * master) * share[1] for part, number in found.trained.items()}
    everything, learns = sum(found.total.values()), sum(found.trained.values())
    live = config.deepspeed.get("zero_optimization", {}).get("stage3_max_live_parameters", LIVE)
    gathered = max(min(everything, live), found.largest) * weight if stage == 3 else 0
    saved = learns if config.frozen else everything
    saving = saved * weight + sum(found.kept.values()) + learns * master
    away = offloads(config.deepspeed)
    return Memory(weights, gradients, state, gathered, _activations(model, config), _loading(found, stage), saving, away)


def _loading(found: Counts, stage: int) -> float:
    """Below ZeRO 3 the files beside the model. Under it weights come one by one, the largest beside a copy that has its new rows
    or another type; what has values before that (new rows, adapters, connectors) is whole until its turn comes."""
    if stage < 3:
        return found.largest * FLOAT
    return FLOAT * (2 * found.largest + sum(found.total[part] for part in ("new_rows", "adapter", "connectors")))


def _activations(model: PreTrainedModel | PeftModel, config: TrainingConfig) -> float:
    """What the backward pass of one pack needs: of each layer its input (float32 under autocast, which adds in float32), and what
    its products read; with `activation_checkpointing` the latter of one layer alone. The loss keeps the last hidden states, their
    gradient, and of the logits one chunk, which is left out."""
    settings = causal_lm(model).config.get_text_config()
    tokens = math.ceil(config.loader.pack_tokens / config.loader.sequence_parallel)
    heads = settings.num_attention_heads
    width = getattr(settings, "head_dim", None) or settings.hidden_size // heads
    values = (getattr(settings, "num_key_value_heads", None) or heads) * width
    inner = getattr(settings, "intermediate_size", None) or getattr(settings, "n_inner", None) or 4 * settings.hidden_size
    stream = 2 if config.half_weights else FLOAT
    product = FLOAT if config.precision == "float32" and not config.half_weights else 2
    of_layer = tokens * (product * (4 * settings.hidden_size + 2 * heads * width + 4 * values + 4 * inner))
    layers, kept = settings.num_hidden_layers, tokens * settings.hidden_size * stream
    whole = 1 if config.activation_checkpointing else layers
    return layers * kept + whole * (of_layer + 2 * kept) + 2 * kept
