"""A function of your own."""

import importlib
import math
from collections.abc import Sequence

import pydantic

from mmpt.document import Part
from mmpt.errors import ConfigError, DataError
from mmpt.improvement.rewards import Reward


class Function(Reward):
    """What a function of another package says (own): `name(asked, answered, expected)`, each a sequence of parts, gives a finite
    number."""

    name: str
    """`package.module:function`."""

    @pydantic.field_validator("name")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not all(part.isidentifier() for part in name.replace(":", ".").split(".")) or name.count(":") != 1:
            raise ValueError("expected package.module:function")
        return name

    def of(self, asked: Sequence[Part], answered: Sequence[Part], expected: Sequence[Part]) -> float:
        """Raises `ConfigError` where there is no such function, `DataError` where it gives no finite number."""
        module, _, name = self.name.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise ConfigError(f"reward.name: {self.name}: {problem}") from None
        found = function(asked, answered, expected)
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise DataError(f"reward {self.name}: it gave {found!r}, expected a finite number")
        return float(found)
