"""A model from a checkpoint folder. Nothing is guessed: every file is checked against the manifest first."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError, ConfigError, VocabularyError
from mmpt.model.adapters import load_adapter
from mmpt.model.backbone import load_backbone
from mmpt.model.new_rows import table_size
from mmpt.storage import check_folder
from mmpt.vocabulary import Vocabulary

FORMAT = "mmpt-checkpoint/1"


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
    checkpoint: Path, trainable: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel | PeftModel, Vocabulary]:
    """As `load_model`, for a folder that is already checked; with `trainable` the adapters require a gradient."""
    if not (checkpoint / "backbone" / "config.json").is_file():
        raise CheckpointError(f"{checkpoint}: backbone/config.json is missing")
    vocabulary = Vocabulary.load(checkpoint)
    try:
        model = load_backbone(checkpoint / "backbone", dtype)
    except ConfigError as problem:
        raise CheckpointError(f"{checkpoint}: {problem}") from None
    rows = table_size(model)
    if rows != vocabulary.size:
        raise VocabularyError(f"{checkpoint}: backbone/ has {rows} embedding rows, vocabulary.json has {vocabulary.size} ids")
    if (checkpoint / "adapter").is_dir():
        model = load_adapter(model, checkpoint / "adapter", trainable)
    return model, vocabulary
