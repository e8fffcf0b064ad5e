"""A tokenizer of any origin from its folder, or from a published one's Hugging Face name."""

from pathlib import Path

from mmpt.errors import CheckpointError
from mmpt.tokenizers.figures import ImageFigures, SpeechFigures
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.interface import AnyImageTokenizer, AnySpeechTokenizer
from mmpt.tokenizers.published_folder import is_published, opened
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer


def load_speech(path: Path) -> AnySpeechTokenizer:
    """In eval mode. Raises `CheckpointError` where there is no whole speech tokenizer."""
    return _published_speech(path) if is_published(path) else SpeechTokenizer.load(path)


def load_speech_coder(path: Path) -> AnySpeechTokenizer | SpeechCoder:
    """What makes codes of speech, and perhaps nothing else."""
    return _published_speech(path) if is_published(path) else SpeechCoder.load(path)


def load_image(path: Path) -> AnyImageTokenizer:
    """In eval mode. Raises `CheckpointError` where there is no whole image tokenizer."""
    if not is_published(path):
        return ImageTokenizer.load(path)
    found = opened(path)
    if not isinstance(found.figures, ImageFigures):
        raise CheckpointError(f"{path}: {found.settings.kind} is a speech tokenizer, expected one of images")
    return found.settings.load(found.folder)  # pyright: ignore[reportReturnType] (its figures say what it is)


def _published_speech(path: Path) -> AnySpeechTokenizer:
    found = opened(path)
    if not isinstance(found.figures, SpeechFigures):
        raise CheckpointError(f"{path}: {found.settings.kind} is an image tokenizer, expected one of speech")
    return found.settings.load(found.folder)  # pyright: ignore[reportReturnType] (its figures say what it is)
