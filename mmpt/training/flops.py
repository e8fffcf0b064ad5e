"""Floating-point operations of a training step, and the share of a device's peak that they take (MFU).

A token costs 2 operations for each weight of a matrix that it passes: once forward, once backward for its own gradient, once more
where the weight learns. Attention is counted causal and within documents; the same over whole rows stands beside it, since other
projects count so. Recomputed activations, embeddings, norms and tokens that the loss leaves out are not counted.
"""

from typing import NamedTuple

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.forward import causal_lm, head_tables
from mmpt.model.new_rows import TwoTableEmbedding

BF16_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "B200": 2250e12}
"""Dense bf16 FLOP/s of the makers' data sheets, by a part of the device's name."""


class Cost(NamedTuple):
    """Operations of a step by what they grow with: `token` for each token, `supervised` for each token with a loss, `attention`
    for each (query, key) pair that attends, all of them forward and backward."""

    token: float
    supervised: float
    attention: float

    def of(self, batch: PackedBatch) -> tuple[float, float]:
        """(operations, the same with attention over the whole row) of a pack."""
        lengths = batch.cu_seqlens.diff().double()
        length, supervised = float(lengths.sum()), float((batch.weights > 0).sum())
        rest = self.token * length + self.supervised * supervised
        causal = float((lengths * (lengths + 1) / 2).sum())
        return rest + self.attention * causal, rest + self.attention * length**2


def step_cost(model: PreTrainedModel | PeftModel) -> Cost:
    """What a step of `model` costs, before DeepSpeed has cut its weights up."""
    settings = causal_lm(model).config.get_text_config()
    heads = {id(table) for table in head_tables(model)}
    token = sum(
        (6.0 if weight.requires_grad else 4.0) * weight.numel() * share
        for module in model.modules()
        for weight, share in _matrices(module, settings)
        if id(weight) not in heads
    )
    supervised = sum((6.0 if table.requires_grad else 4.0) * table.numel() for table in head_tables(model))
    width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    # Two products of `width` for each pair and head, forward, and twice that backward.
    return Cost(token, supervised, 12.0 * settings.num_hidden_layers * settings.num_attention_heads * width)


def _matrices(module: nn.Module, settings: PreTrainedConfig) -> list[tuple[nn.Parameter, float]]:
    """(a matrix of `module` itself by which tokens are multiplied, the share of it that each passes): layers of any class,
    routers, and experts, whose matrices are stacked into one weight [experts, …, …]."""
    if isinstance(module, (nn.Embedding, TwoTableEmbedding, nn.modules.conv._ConvNd)):
        return []
    own = list(module.parameters(recurse=False))
    stacked = [weight for weight in own if weight.ndim == 3]
    if stacked:  # beside them only biases; blocks of an adapter are stacked too, and each token passes all of them
        chosen = getattr(settings, "num_experts_per_tok", None)
        return [(weight, min(1.0, chosen / len(weight)) if chosen else 1.0) for weight in stacked]
    return [(weight, 1.0) for weight in own if weight.ndim == 2]


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a known GPU, None for any other device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in BF16_PEAK.items() if part in name), None)
