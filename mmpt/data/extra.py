"""Libraries that only some tools of the data engine need: the extra `data` and others."""

import importlib
from types import ModuleType

from mmpt.errors import ConfigError


def need(module: str, extra: str = "data") -> ModuleType:
    """Import a library of an extra. Raises `ConfigError` saying how to install it where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name != module.split(".")[0]:
            raise
        raise ConfigError(f'{module} is not installed: pip install "mmpt[{extra}]"') from None
