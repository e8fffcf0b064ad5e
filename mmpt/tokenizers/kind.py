"""What kind of tokenizer a folder holds."""

from pathlib import Path

from mmpt.errors import CheckpointError
from mmpt.modality import Medium
from mmpt.storage import MANIFEST, read_json

_KINDS: dict[str, Medium] = {"mmpt-speech-tokenizer": "speech", "mmpt-image-tokenizer": "image"}


def tokenizer_kind(folder: Path) -> Medium:
    """By its manifest. Raises `CheckpointError` where there is none, or it is of something else."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: {MANIFEST} is missing, so this is no finished tokenizer")
    found = str(read_json(path, CheckpointError).get("format"))
    if found.split("/")[0] not in _KINDS:
        raise CheckpointError(f"{path}: format is {found!r}, expected a speech or image tokenizer's")
    return _KINDS[found.split("/")[0]]
