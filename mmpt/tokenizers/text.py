"""Text tokenizers: any Hugging Face one by name or folder, or a byte-level BPE trained on a corpus."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmpt.errors import ConfigError
from mmpt.storage import is_missing_folder, link_tree

if TYPE_CHECKING:  # transformers takes seconds; it is imported where a tokenizer is made
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def train_text_tokenizer(texts: Iterable[str], vocabulary_size: int, special: Sequence[str] = ()) -> "PreTrainedTokenizerFast":
    """Byte-level BPE (as GPT-2's) of at most `vocabulary_size` ids; every string can be encoded, none gives an unknown id. The
    tokens `special` are the first ids, and `encode_text` gives them for no text."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=list(special),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def load_text_tokenizer(name_or_folder: str | Path) -> "PreTrainedTokenizerBase":
    """`AutoTokenizer` from a name or folder. Raises `ConfigError` where there is none."""
    if is_missing_folder(name_or_folder):
        raise ConfigError(
            f"{name_or_folder}: no such folder, where a text tokenizer should be "
            "(python tokenizers/train.py tokenizers/text.yaml OUT trains one, as OUT/tokenizer)"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(name_or_folder))
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{name_or_folder}: no text tokenizer can be loaded ({problem})") from None


def copy_text_tokenizer(name_or_folder: str | Path, folder: Path) -> None:
    """Put a text tokenizer into the new `folder`: links to its files, or, of a folder that holds a model too and of a Hugging
    Face name, the tokenizer alone. Raises `ConfigError` where there is none."""
    if Path(name_or_folder).is_dir() and not (Path(name_or_folder) / "config.json").is_file():
        link_tree(Path(name_or_folder), folder)
    else:
        load_text_tokenizer(name_or_folder).save_pretrained(folder)


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Ids of `text` without any added token; a special token spelled out in `text` stays plain text."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def decode_text(tokenizer: "PreTrainedTokenizerBase", ids: Iterable[int]) -> str:
    """The text of ids in the text range, without surrounding space."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return cast(str, text).strip()  # a list of texts comes of a list of lists alone


def text_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 over the (token, id) pairs, so that two tokenizers agree exactly if every id means the same string."""
    pairs = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
