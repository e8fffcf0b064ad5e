"""Paths that a person named in a specification."""

from pathlib import Path

from mmpt.errors import ConfigError


def existing_file(path: Path) -> Path:
    """`path` itself. Raises `ConfigError` where it is no file."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    return path
