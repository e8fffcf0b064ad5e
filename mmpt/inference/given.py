"""A file that a person gives, as a part of a prompt."""

from pathlib import Path

from mmpt.document import Image, Speech
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, open_sound
from mmpt.modality import Medium


def read_part(kind: Medium, path: Path) -> Image | Speech:
    """The picture or utterance in a file. Raises `ConfigError` where there is none, or it cannot be decoded."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    # Decoded here, and not their headers alone read: of what phones and browsers record, headers often do not tell the length.
    data, suffix = path.read_bytes(), path.suffix[1:]
    try:
        if kind == "image":
            return Image(data, suffix, *decode_image(data).size)
        sound = open_sound(data)
    except DataError as problem:
        raise ConfigError(f"{path}: {problem}") from None
    return Speech(data, suffix, sound.sample_rate, len(sound.samples) / sound.sample_rate)
