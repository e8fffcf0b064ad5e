"""The text side of a published open_clip model."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pydantic

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.text_encoders import TextEncoder

if TYPE_CHECKING:
    import torch

    from mmpt.tokenizers.image.config import CaptionConfig
    from mmpt.tokenizers.image.text_encoders._published import PublishedText


class OpenClip(TextEncoder):
    """The frozen text side of an open_clip model (Ilharco et al. 2021, github.com/mlfoundations/open_clip): one state for a
    caption, its embedding. It is needed where captions are read, and no part of what is saved."""

    model: str
    """Its name in open_clip, such as `ViT-B-16-SigLIP2`."""
    pretrained: str
    """A tag of that model, or a file of its weights."""
    cache_mib: int = pydantic.Field(default=512, ge=0)
    """Of states of captions that were read already: epoch after epoch they are the same."""

    def ids(self, text: str, captions: "CaptionConfig") -> list[int]:
        if not text.strip():
            return []
        found = _tokenizer(self.model)([text])[0].tolist()
        while found and found[-1] == _pad(self.model):
            found.pop()
        # The end is what CLIP's text side is read at.
        found = found if len(found) <= captions.words else [*found[: captions.words - 1], found[-1]]
        return [token + 1 for token in found]

    def build(self, captions: "CaptionConfig") -> "PublishedText":
        from mmpt.tokenizers.image.text_encoders._published import PublishedText

        return PublishedText(self._load, captions.width, self.cache_mib)

    def _load(self):
        """The model, and what makes states [B, 1, W] of ids that are 0 where there are none."""
        import open_clip
        import torch

        try:
            model: Any = open_clip.create_model(self.model, pretrained=self.pretrained, weights_only=True)
            length, pad = _tokenizer(self.model).context_length, _pad(self.model)
        except Exception as problem:  # open_clip raises whatever its models and the hub raise
            raise ConfigError(f"captions.encoder: open_clip's {self.model!r} cannot be used: {problem}") from None

        def states(ids: "torch.Tensor") -> "torch.Tensor":
            shown = ids.new_full((len(ids), length), pad)
            shown[:, : ids.shape[1]] = torch.where(ids != 0, ids - 1, pad)
            return model.encode_text(shown)[:, None]

        return model, states


def _pad(name: str) -> int:
    import open_clip

    known: Any = open_clip.get_model_config(name) or {}
    return known.get("text_cfg", {}).get("pad_id", 0)


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(name)
    except Exception as problem:  # open_clip raises whatever its tokenizers and the hub raise
        raise ConfigError(f"captions.encoder: open_clip's {name!r} has no tokenizer that can be used: {problem}") from None
