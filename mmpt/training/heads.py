"""What objectives learn for themselves, in checkpoints: `objectives.safetensors`."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmpt.errors import CheckpointError
from mmpt.training.config import TrainingConfig
from mmpt.training.language_model import LanguageModel

FILE = "objectives.safetensors"
PREFIX = "objectives."


def load_heads(trained: LanguageModel, config: TrainingConfig, checkpoint: Path | None) -> None:
    """Put what `checkpoint` has into `trained`; where a run begins from another one, what that has of the same objectives. Raises
    `CheckpointError` where it does not fit."""
    path = (checkpoint or _origin(config) or Path()) / FILE
    if not trained.heads or (checkpoint is None and not path.is_file()):
        return
    try:
        found = load_file(path)
        for kind, head in trained.heads.items():
            own = {name.removeprefix(f"{kind}."): value for name, value in found.items() if name.startswith(f"{kind}.")}
            if own or checkpoint is not None:
                head.load_state_dict(own)
    except (OSError, RuntimeError, SafetensorError) as problem:
        raise CheckpointError(f"{path}: {problem}") from None


def save_heads(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write those of `tensors`, by the names of a trained model's weights, that are objectives'."""
    own = {name.removeprefix(PREFIX): value.contiguous() for name, value in tensors.items() if name.startswith(PREFIX)}
    if own:
        save_file(own, folder / FILE)


def _origin(config: TrainingConfig) -> Path | None:
    """The checkpoint that a run begins from, where it is one of mmpt."""
    path = None if config.backbone is None else config.backbone.path
    return config.base if path is None else Path(path).parent
