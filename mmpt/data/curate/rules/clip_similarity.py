"""How well a picture and its text go together."""

from functools import lru_cache
from typing import Any, ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image


class ClipSimilarity(PartRule):
    """Cosine of a picture and its alternative text, else the text nearest to it, under an open_clip model: Schuhmann et al. 2022,
    "LAION-5B" (arXiv:2210.08402). The score is kept as `clip`."""

    carries: ClassVar[tuple[str, ...]] = ("Data Filtering Networks (DFN)",)

    judges: ClassVar = Image
    model: str = "ViT-B-32"
    """open_clip's name of the model."""
    pretrained: str = "laion2b_s34b_b79k"
    """One of open_clip's tags, or the path of a checkpoint."""
    min: float = 0.2
    """Cosine at least."""

    def judge(self, part: Image, document: Document, place: int) -> Verdict:
        import torch

        text = nearest_text(document, place)
        if not text:
            return Verdict("no text to compare it with")
        model, transform, tokenizer = _clip(self.model, self.pretrained)
        with torch.inference_mode():
            image = model.encode_image(transform(decode_image(part.data))[None], normalize=True)
            score = round(float((image @ model.encode_text(tokenizer([text]), normalize=True).T).item()), 4)
        return Verdict(None if score >= self.min else f"similarity {score:.3f} to {text[:60]!r}", {"clip": score})


def nearest_text(document: Document, place: int) -> str:
    """The text of a picture: its alternative text, else the nearest text part, of two as near the following."""
    part = document.parts[place]
    if isinstance(part, Image) and part.alt.strip():
        return part.alt
    texts = {other: one.text for other, one in enumerate(document.parts) if isinstance(one, Text) and one.text.strip()}
    nearest = min(texts, key=lambda other: (abs(other - place), other < place), default=None)
    return "" if nearest is None else texts[nearest]


@lru_cache(maxsize=2)
def _clip(name: str, pretrained: str) -> tuple[Any, Any, Any]:
    """(model, transform of pictures, tokenizer), loaded once in each process."""
    import open_clip

    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=pretrained)
    except (RuntimeError, OSError) as problem:
        raise ConfigError(f"clip_similarity: {name} {pretrained} cannot be loaded ({problem})") from None
    return model.eval(), transform, open_clip.get_tokenizer(name)
