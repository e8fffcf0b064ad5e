"""Text encoders: captions as ids and states, to be compared with images while a tokenizer is trained.

captions: {encoder: words}
captions: {encoder: {kind: transformers, model: sentence-transformers/all-MiniLM-L6-v2}}
captions: {encoder: {kind: transformers, model: HuggingFaceTB/SmolLM2-135M-Instruct, writes: true}}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import nn

    from mmpt.tokenizers.image.config import CaptionConfig
    from mmpt.tokenizers.image.text_encoders._writer import PublishedWriter


class TextEncoder(Method):
    """What reads captions. `ids` of a text are what a batch carries; the module of `build` makes states of them."""

    key: ClassVar[str] = "encoder"
    default_kind: ClassVar[str] = "words"

    @abstractmethod
    def ids(self, text: str, captions: "CaptionConfig") -> list[int]:
        """Ids above 0, `captions.words` of them at most; 0 pads. Raises `ConfigError` where a published tokenizer cannot be
        loaded."""

    @abstractmethod
    def build(self, captions: "CaptionConfig") -> "nn.Module":
        """A module: ids int64 [B, L] → states float32 [B, N, captions.width]; where N is L, of what is 0 in `ids` they mean
        nothing."""

    def writer(self, code_dim: int) -> "PublishedWriter | None":
        """A published module that writes captions: vectors [B, queries, code_dim] and ids [B, L] → the mean cross-entropy; None
        where one learns along."""
        return None
