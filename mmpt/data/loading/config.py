"""What the loader can be told, apart from its modules: a recipe is checked before torch is loaded."""

from collections.abc import Iterable, Sequence
from typing import Literal

LongDocuments = Literal["split", "drop"]
"""What becomes of a document over the budget of a pack: cut into pieces, or left out."""


def packs_of_step(step: int, packs_per_step: int, ramp: Iterable[Sequence[int]]) -> int:
    """Packs of step `step` (from 1): those of the first (until step, packs) of `ramp` that reaches it, else `packs_per_step`."""
    return next((packs for until, packs in ramp if step <= until), packs_per_step)
