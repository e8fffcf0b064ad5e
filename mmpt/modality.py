"""The modalities by name, once: what they are called in files, keys and messages, and at what rate speech is sampled."""

from typing import Literal, get_args

from mmpt.document import Image, Part, Speech, Text

Modality = Literal["text", "image", "speech"]
"""What a part of a document is; `special` tokens are of none."""
Medium = Literal["image", "speech"]
"""A modality that is stored as a file of its own and read by a tokenizer or an encoder."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)
MEDIA: tuple[Medium, ...] = get_args(Medium)
SAMPLE_RATE = 16_000
"""Hz at which speech is decoded, stored by default and tokenized."""

_NAMES: dict[type, Modality] = {Text: "text", Image: "image", Speech: "speech"}


def modality_of(part: Part) -> Modality:
    """What a part is."""
    return _NAMES[type(part)]


def medium_of(part: Image | Speech) -> Medium:
    """What a picture or an utterance is."""
    return "image" if isinstance(part, Image) else "speech"


def tokenizer_folder(modality: Modality) -> str:
    """The subfolder of a checkpoint, and the key of a recipe, that holds the tokenizer of a modality."""
    return f"{modality}_tokenizer"
