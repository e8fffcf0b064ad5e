"""A model from a checkpoint folder. Nothing is guessed: every file is checked against the manifest first."""

from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError, ConfigError, VocabularyError
from mmpt.model.adaptation import load_adapter
from mmpt.model.backbone import load_backbone
from mmpt.model.factors import FILE, restore_layers
from mmpt.model.hub import CHECKPOINT
from mmpt.model.new_rows import fill_rows, split_rows, table_size
from mmpt.storage import check_folder
from mmpt.vocabulary import Vocabulary

FORMAT = CHECKPOINT
NEW_ROWS = "new_rows.safetensors"


def load_model(checkpoint: Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel | PeftModel, Vocabulary]:
    """The model, in evaluation mode, and its vocabulary.

    Raises `CheckpointError` where a file is missing or damaged, `VocabularyError` where the embedding table does not have one row
    for each id of the vocabulary.
    """
    checkpoint = Path(checkpoint)
    check_folder(checkpoint, FORMAT)
    model, vocabulary = load_parts(checkpoint, dtype=dtype)
    return model.eval(), vocabulary


def load_parts(
    checkpoint: Path,
    trainable: bool = False,
    dtype: torch.dtype = torch.float32,
    factors: bool = False,
    hollow: bool = False,
) -> tuple[PreTrainedModel | PeftModel, Vocabulary]:
    """As `load_model`, for a folder that is already checked. `trainable`: its adapters and tables of new rows require a gradient,
    and nothing else; where it has neither, everything does. `factors`: its linear layers
    as training has them (see `mmpt.model.linears`), not as plain matrices. `hollow`: see `mmpt.model.backbone.load_backbone`."""
    if not (checkpoint / "backbone" / "config.json").is_file():
        raise CheckpointError(f"{checkpoint}: backbone/config.json is missing")
    vocabulary = Vocabulary.load(checkpoint)
    try:
        model = load_backbone(checkpoint / "backbone", dtype, hollow and not (checkpoint / FILE).is_file())
    except ConfigError as problem:
        raise CheckpointError(f"{checkpoint}: {problem}") from None
    if (checkpoint / NEW_ROWS).is_file():
        fill_rows(model, _tensors(checkpoint / NEW_ROWS), vocabulary.text_size)
    if factors:
        restore_layers(model, checkpoint)
    rows = table_size(model)
    if rows != vocabulary.size:
        raise VocabularyError(f"{checkpoint}: backbone/ has {rows} embedding rows, vocabulary.json has {vocabulary.size} ids")
    tables = split_rows(model, vocabulary.text_size) if trainable and (checkpoint / NEW_ROWS).is_file() else []
    if (checkpoint / "adapter").is_dir():
        model = load_adapter(model, checkpoint / "adapter", trainable)
    elif tables:
        model.requires_grad_(False)
    for table in tables:
        table.requires_grad_(True)
    return model, vocabulary


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as problem:
        raise CheckpointError(f"{path}: {problem}") from None
