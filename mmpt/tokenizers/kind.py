"""What kind of tokenizer a folder holds."""

from pathlib import Path

from mmpt.config import parse_config
from mmpt.errors import CheckpointError
from mmpt.modality import Medium
from mmpt.storage import MANIFEST, check_folder, read_json
from mmpt.tokenizers.figures import Figures
from mmpt.tokenizers.image.config import FORMAT as IMAGE_FORMAT
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.published_folder import is_published, opened
from mmpt.tokenizers.speech.config import FORMAT as SPEECH_FORMAT
from mmpt.tokenizers.speech.config import SpeechConfig

_KINDS: dict[str, Medium] = {"mmpt-speech-tokenizer": "speech", "mmpt-image-tokenizer": "image"}


def tokenizer_kind(path: Path) -> Medium:
    """By its manifest, or of a published one its configuration; `path` may be a Hugging Face name. Raises `CheckpointError` where
    it is of something else."""
    if is_published(path):
        return opened(path).settings.tokenizes
    found = str(read_json(Path(path) / MANIFEST, CheckpointError).get("format"))
    if found.split("/")[0] not in _KINDS:
        raise CheckpointError(f"{path}/{MANIFEST}: format is {found!r}, expected a speech or image tokenizer's")
    return _KINDS[found.split("/")[0]]


def tokenizer_figures(path: Path) -> Figures:
    """Its figures, without its weights. Raises `CheckpointError` where the folder is not whole."""
    if is_published(path):
        return opened(path).figures
    kind, file = tokenizer_kind(path), Path(path) / "config.json"
    check_folder(path, {"speech": SPEECH_FORMAT, "image": IMAGE_FORMAT}[kind])
    schema = SpeechConfig if kind == "speech" else ImageTokenizerConfig
    return parse_config(read_json(file, CheckpointError), schema, str(file)).figures
