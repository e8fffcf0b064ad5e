"""What an exported folder holds besides, so that ids that come out of vLLM can become pictures and sound."""

from pathlib import Path

from mmpt.chat import ChatFormat
from mmpt.errors import ConfigError
from mmpt.model.feature_inputs import FOLDER
from mmpt.model.prompts import Prompts
from mmpt.storage import link_tree
from mmpt.vocabulary import FILE as VOCABULARY

CODES = "codes"
"""The folder of the tokenizers in an exported folder."""
PARTS = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")


def check_for_vllm(checkpoint: Path, keep_adapter: bool) -> None:
    """Raise `ConfigError` where ids are not all that the model reads, or the adapter is to stay apart."""
    if (checkpoint / FOLDER).is_dir():
        raise ConfigError(
            f"export: {checkpoint} reads media as features ({FOLDER}/), and vLLM would get ids alone; try --to llava"
        )
    if keep_adapter:
        raise ConfigError("export: --to vllm is whole: it goes without --keep-adapter")


def add_tokenizers(checkpoint: Path, folder: Path) -> None:
    """Put the tokenizers of `checkpoint` into the exported `folder`."""
    for name in PARTS:
        if (checkpoint / name).is_dir():
            link_tree(checkpoint / name, folder / CODES / name)
    for name in (VOCABULARY, ChatFormat.file, Prompts.file):
        if (checkpoint / name).is_file():
            (folder / CODES / name).write_bytes((checkpoint / name).read_bytes())
