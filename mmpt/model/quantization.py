"""The matrices of a decoder in eight bits, for generation."""

from typing import Literal

import torch
from transformers import PreTrainedModel

from mmpt.data.extra import need
from mmpt.errors import ConfigError

Quantization = Literal["int8"]


def quantize(model: PreTrainedModel, quantization: Quantization) -> None:
    """Replace the weight of each linear layer of the decoder, in place, by a byte for each value and a scale for each row
    (symmetric, round to nearest: LLM.int8()'s vectors without its outliers, Dettmers et al. 2022, arXiv:2208.07339; by torchao's
    `Int8WeightOnlyConfig`). What is multiplied with them stays in the dtype of the weights.

    Embeddings and head, which are often one table, stay as they are, and so do experts that are no linear layers each. Raises
    `ConfigError` where torchao is not installed, there is no such layer, or `quantization` is another word.
    """
    if quantization != "int8":
        raise ConfigError(f"quantization: {quantization!r}, expected int8")
    decoder = model.base_model  # without the head
    if not any(isinstance(module, torch.nn.Linear) for module in decoder.modules()):
        raise ConfigError(f"quantization: int8: {type(model).__name__} has no linear layers (torch.nn.Linear) in its decoder")
    library = need("torchao.quantization", "int8")
    # Version 2: of those that torchao 0.16 has, the one that stays.
    library.quantize_(decoder, library.Int8WeightOnlyConfig(version=2))
