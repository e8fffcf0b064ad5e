"""A decoder with adapters (see `mmpt.model.adapters`) put into it by peft: new ones, saved ones, and ones that become weights."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adapters import Adapter
from mmpt.model.hollow import fill

BY_SHAPE = ("IA3", "LOHA", "LOKR", "LORA", "VERA")
"""What peft calls the tuners that ask of the frozen weights no more than their shapes as they are put in."""


def add_adapter(model: PreTrainedModel, adapter: Adapter, seed: int) -> PeftModel:
    """Freeze `model` and put new adapters into it; they start as the identity. Only they require a gradient.

    The start values are a pure function of `seed`. Raises `ConfigError` where the targets name no layer or do not suit the
    adapter, or name the head or the embeddings, whose weight the loss reads directly.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            settings = adapter.peft_config(seed)
            if settings.peft_type not in BY_SHAPE:
                fill(model)
            adapted = get_peft_model(model, settings)
        except (ValueError, TypeError, AssertionError) as problem:  # sizes that do not divide are told in any of these ways
            raise ConfigError(f"adapter.targets: {problem}") from None
    if model.get_output_embeddings() is not head or model.get_input_embeddings() is not embeddings:
        raise ConfigError("adapter.targets: the head and the embeddings take no adapter")
    return adapted


def save_adapter(model: PeftModel, weights: dict[str, Tensor] | None, folder: Path) -> None:
    """Write the adapters alone as a peft folder (safetensors and JSON): `weights` by their names in `model`, None: its own."""
    model.peft_config["default"].base_model_name_or_path = "../backbone"
    if weights is not None:
        # Random projections and choices of weights do not learn, but without them what learned means nothing. Buffers are whole
        # under every ZeRO stage; those of the backbone peft leaves out.
        weights = {**dict(model.named_buffers(remove_duplicate=False)), **weights}
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False, state_dict=weights)


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool = False) -> PeftModel:
    """Put the adapters of a peft folder into `model`. Raises `CheckpointError` naming the folder where they do not fit."""
    if not (Path(folder) / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{folder}: adapter_model.safetensors is missing")
    try:
        if PeftConfig.from_pretrained(str(folder)).peft_type not in BY_SHAPE:
            fill(model)
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (ValueError, RuntimeError, KeyError, TypeError) as problem:
        raise CheckpointError(f"{folder}: these adapters do not fit the backbone: {problem}") from None


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """The backbone with the adapters added into its weights, as an ordinary Hugging Face model."""
    return model.merge_and_unload(safe_merge=True)  # pyright: ignore[reportCallIssue]  # peft forwards it to the tuner
