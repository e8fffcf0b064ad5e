"""What the loader can be told, apart from its modules: a recipe is checked before torch is loaded."""

from typing import Literal

LongDocuments = Literal["split", "drop"]
"""What becomes of a document over the budget of a pack: cut into pieces, or left out."""
