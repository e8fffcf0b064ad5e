"""A published text model of transformers."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.text_encoders import TextEncoder

if TYPE_CHECKING:
    import torch

    from mmpt.tokenizers.image.config import CaptionConfig
    from mmpt.tokenizers.image.text_encoders._published import PublishedText
    from mmpt.tokenizers.image.text_encoders._writer import PublishedWriter


class Transformers(TextEncoder):
    """A frozen text model of transformers (Wolf et al. 2020, arXiv:1910.03771): a sentence encoder, the text side of CLIP or
    SigLIP, or a decoder LLM, as FLAME has one read captions (Cao et al. 2024, arXiv:2411.11927). It is needed where captions are
    read, and no part of what is saved."""

    model: str
    """A folder or Hugging Face name, such as `sentence-transformers/all-MiniLM-L6-v2`."""
    layer: int = -1
    """Which of its hidden states are taken, counted as in the library: −1 is after the last layer."""
    cache_mib: int = pydantic.Field(default=512, ge=0)
    """Of states of captions that were read already: epoch after epoch they are the same."""
    writes: bool = False
    """The model, a decoder LLM, also writes captions from codes where a stage has `describe` (the captioning loss of BLIP-2, Li
    et al. 2023, arXiv:2301.12597); by default a small decoder that learns along does."""

    def ids(self, text: str, captions: "CaptionConfig") -> list[int]:
        if not text.strip():
            return []
        found = _tokenizer(self.model)(text, truncation=True, max_length=captions.words)["input_ids"]
        return [token + 1 for token in found]

    def build(self, captions: "CaptionConfig") -> "PublishedText":
        from mmpt.tokenizers.image.text_encoders._published import PublishedText

        return PublishedText(self._load, captions.width, self.cache_mib)

    def writer(self, code_dim: int) -> "PublishedWriter | None":
        from mmpt.tokenizers.image.text_encoders._writer import PublishedWriter

        return PublishedWriter(lambda: _language_model(self.model), code_dim) if self.writes else None

    def _load(self):
        """The model, and what makes states [B, L, W] of ids that are 0 where there are none."""
        import torch
        from transformers import AutoModel

        model: Any = _language_model(self.model).base_model if self.writes else _loaded(AutoModel, self.model)
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        model = getattr(model, "text_model", model)  # of a model that reads images too

        def states(ids: "torch.Tensor") -> "torch.Tensor":
            told = ids != 0
            shown = torch.where(told, ids - 1, 0)
            return model(input_ids=shown, attention_mask=told.long(), output_hidden_states=True).hidden_states[self.layer]

        return model, states


def _loaded(kind: Any, name: str) -> Any:
    try:
        return kind.from_pretrained(_source(name), use_safetensors=True)
    except Exception as problem:  # transformers raises whatever its models and the hub raise
        raise ConfigError(f"captions.encoder: {name!r} cannot be used: {problem}") from None


@lru_cache(maxsize=1)  # one for what reads and what writes
def _language_model(name: str) -> Any:
    """Frozen. Raises `ConfigError` also where a token's state depends on later ones: it would copy what it is to write."""
    import torch
    from transformers import AutoModelForCausalLM

    model = _loaded(AutoModelForCausalLM, name).eval().requires_grad_(False)
    with torch.no_grad():
        one, other = (model(input_ids=torch.tensor([[1, 2, last]]), use_cache=False).logits[0, :2] for last in (1, 3))
    if not torch.allclose(one, other, atol=1e-4):
        raise ConfigError(f"captions.encoder.writes: {name!r} is no decoder LLM: its tokens see those behind them")
    return model


def _source(name: str) -> Path | str:
    return Path(name) if Path(name).exists() else name


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(_source(name))
    except Exception as problem:  # transformers raises whatever its tokenizers and the hub raise
        raise ConfigError(f"captions.encoder: {name!r} has no tokenizer that can be used: {problem}") from None
