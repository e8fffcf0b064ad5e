"""Which checkpoint a path stands for; known before torch is loaded."""

from collections.abc import Sequence
from pathlib import Path

from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.hub import pulled
from mmpt.storage import MANIFEST, read_json

EXPORT = "mmpt-export/"


def find_checkpoint(path: Path) -> Path:
    """`path` itself where it is a checkpoint, else the newest under `path`/checkpoints; `hf://OWNER/NAME` is one on the hub.

    Raises `CheckpointError` where there is none, and says what was meant where `path` is something else that mmpt writes.
    """
    path = pulled(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder")
    if (path / MANIFEST).is_file():
        kind = str(read_json(path / MANIFEST, CheckpointError).get("format"))
        if kind.startswith(EXPORT):
            raise CheckpointError(f"{path}: exported for other engines; give the run or checkpoint that it was exported from")
        return path
    if (path / "backbone").is_dir():
        return path
    found = sorted((path / "checkpoints").glob("step-*"))
    if not found:
        raise CheckpointError(f"{path}: neither a checkpoint ({MANIFEST} is missing) nor a run folder with checkpoints/step-*")
    return found[-1]


def find_model(path: Path) -> Path:
    """`find_checkpoint`, or `path` itself where it is a published model: a folder of its files, or a Hugging Face name."""
    path = pulled(path)
    published = not path.is_dir() or (path / "config.json").is_file()
    return path if published else find_checkpoint(path)


def require_different(given: Sequence[Path], found: Sequence[Path]) -> None:
    """Raise `ConfigError` naming those of `given` paths that stand for the same model as one before them."""
    twice = [
        f"{path}: {model}, which {given[first]} is already"
        for number, (path, model) in enumerate(zip(given, found, strict=True))
        if (first := next(n for n, other in enumerate(found) if other.resolve() == model.resolve())) < number
    ]
    if twice:
        raise ConfigError("the same checkpoint twice (--weights gives one more weight):\n  " + "\n  ".join(twice))
