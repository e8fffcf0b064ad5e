"""A pretrained decoder, changed as it is loaded (see `mmpt.model.changes`)."""

import copy
from collections.abc import Iterable, Sequence

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from mmpt.model.changes import Change
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION


def changed(
    model: PreTrainedModel, changes: Sequence[Change], seed: int, sequences: Iterable[Sequence[int]] = ()
) -> PreTrainedModel:
    """`model` after each of the changes in order, a function of the arguments. Raises `ConfigError` where it cannot be changed
    so."""
    for number, change in enumerate(changes):
        settings = changed_settings(model.config, [change])
        generator = torch.Generator().manual_seed(seed + number)
        with torch.no_grad():
            tensors = change.weights(model, settings, generator, sequences)
            try:
                made = AutoModelForCausalLM.from_config(settings, dtype=model.dtype, attn_implementation=PACKED_ATTENTION)
                made.load_state_dict(tensors)
            except (RuntimeError, ValueError, KeyError) as problem:
                raise change.refused(model.config, f"takes no such change ({str(problem).splitlines()[0]})") from None
        made.generation_config = model.generation_config
        model = made
    return model


def changed_settings(config: PreTrainedConfig, changes: Sequence[Change]) -> PreTrainedConfig:
    """The configuration after the changes. Raises `ConfigError`."""
    for change in changes:
        try:
            config = change.settings(copy.deepcopy(config))
            config.validate()
        except (ValueError, KeyError, TypeError, StrictDataclassError) as problem:
            raise change.refused(config, f"takes no such change ({str(problem).splitlines()[0]})") from None
    return config
