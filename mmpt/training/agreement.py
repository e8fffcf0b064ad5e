"""Whether the parts that a run names belong to its shards: asked before anything is loaded or trained.

Each id of the shards means what their tokenizers said. A run with another tokenizer, or on a backbone of another text vocabulary,
would train to its end, and end in a checkpoint that nobody can load.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from mmpt.errors import CheckpointError, ConfigError, MmptError, VocabularyError
from mmpt.modality import Medium
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.hub import on_hub, pulled
from mmpt.storage import is_missing_folder
from mmpt.tokenizers.kind import tokenizer_figures, tokenizer_kind
from mmpt.tokenizers.published_folder import local_folder
from mmpt.tokenizers.text import load_text_tokenizer, text_fingerprint
from mmpt.training.config import TrainingConfig
from mmpt.vocabulary import FILE, Vocabulary, check_same

TOKENIZERS = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


def settled(config: TrainingConfig) -> TrainingConfig:
    """`config` with the newest checkpoint in place of each run folder it starts from, with the tokenizers of the checkpoint
    `from` where it names none, and with the files of published ones that it has by name. Raises `CheckpointError` where there
    are none."""
    found: dict[str, Any] = {} if config.features_from is None else {"features_from": find_checkpoint(config.features_from)}
    if config.base is not None:
        base = find_checkpoint(config.base)
        found |= {name: base / name for name in TOKENIZERS if name not in config.tokenizers and (base / name).is_dir()}
        found["base"] = base
    if config.backbone is not None and config.backbone.path is not None and on_hub(config.backbone.path):
        folder = pulled(config.backbone.path)
        path = folder / "backbone" if (folder / "backbone").is_dir() else folder
        found["backbone"] = config.backbone.model_copy(update={"path": str(path)})
    # A published tokenizer by its name: its files, which each checkpoint gets. What is missing is told by `check_parts`.
    media = {name: path for name, path in config.tokenizers.items() if name != "text_tokenizer"}
    found |= {name: local_folder(path) for name, path in media.items() if not path.exists() and not is_missing_folder(path)}
    return config.model_copy(update=found)


def backbone_vocabulary(path: str) -> Vocabulary | None:
    """The vocabulary that a backbone's table has learned whole, as those in checkpoints and exports of mmpt have; None for a text
    model, whose rows beyond its tokenizer's ids are nobody's."""
    folder = Path(path)
    places = (folder, folder.parent) if folder.name == "backbone" else (folder,)
    return next((Vocabulary.load(place) for place in places if (place / FILE).is_file()), None)


def check_parts(config: TrainingConfig, vocabulary: Vocabulary) -> None:
    """Raise `VocabularyError` naming every tokenizer folder of `config` with which the shards (of `vocabulary`) were not
    made, and a backbone of another text vocabulary; each with both sides."""
    data, problems = str(config.data[0].path), []
    readers = {"text_tokenizer": _text, "speech_tokenizer": _speech, "image_tokenizer": _image}
    for name, folder in config.tokenizers.items():
        try:
            problems += _differences(f"{name}: {folder}", readers[name](folder), vocabulary, data)
        except MmptError as problem:
            problems.append(f"{name}: {problem}")
    if config.backbone is not None and config.backbone.path is not None:
        problems += backbone_problems(config.backbone.path, vocabulary, data)
    if problems:
        raise VocabularyError("the parts of this run do not belong to its data:\n  " + "\n  ".join(problems))


def _differences(name: str, found: dict, vocabulary: Vocabulary, data: str) -> list[str]:
    differ = {key: value for key, value in found.items() if value != getattr(vocabulary, key)}
    if differ.keys() == {"text_fingerprint"}:  # two hashes tell a person little
        return [f"{name}: a tokenizer of as many ids, but other ones than that of {data}"]
    return [
        f"{name}: {key} is {value}, {getattr(vocabulary, key)} in {data}"
        for key, value in differ.items()
        if key != "text_fingerprint"
    ]


def _text(folder: Path | str) -> dict:
    tokenizer = load_text_tokenizer(folder)
    return {"text_size": len(tokenizer), "text_fingerprint": text_fingerprint(tokenizer)}


def _speech(folder: Path) -> dict:
    return _of_kind(folder, "speech")


def _image(folder: Path) -> dict:
    return _of_kind(folder, "image")


def _of_kind(folder: Path, kind: Medium) -> dict:
    if (found := tokenizer_kind(folder)) != kind:
        raise CheckpointError(f"{folder}: a tokenizer of {found}, expected one of {kind}")
    return tokenizer_figures(folder).in_vocabulary()


def backbone_problems(path: str, vocabulary: Vocabulary, data: str) -> list[str]:
    """What says that a model of transformers has another text vocabulary than `data`, with both sides."""
    try:
        known = backbone_vocabulary(path)
        if known is not None:
            check_same(vocabulary, data, known, f"backbone {path}")
            return []
    except VocabularyError as problem:
        return [str(problem)]
    rows = _rows(path)
    if rows is not None and rows < vocabulary.text_size:
        return [f"backbone {path}: it has {rows} embedding rows, the text tokenizer of {data} has {vocabulary.text_size} ids"]
    if not Path(path).is_dir() or any((Path(path) / name).is_file() for name in TOKENIZER_FILES):
        try:
            return _differences(f"the tokenizer of backbone {path}", _text(path), vocabulary, data)
        except ConfigError:
            return []  # a model without a tokenizer
    # Tables are padded by some hundred rows, or a few in a hundred.
    if rows is not None and rows - vocabulary.text_size > max(1024, vocabulary.text_size // 20):
        return [
            f"backbone {path}: it has {rows} embedding rows, the text tokenizer of {data} {vocabulary.text_size} ids; "
            "put its own tokenizer into the folder if it belongs to it all the same"
        ]
    return []


def _rows(path: str) -> int | None:
    """Rows of the embedding, without loading it; None where the configuration cannot be read, which loading will say better."""
    try:
        return AutoConfig.from_pretrained(path).get_text_config().vocab_size
    except (OSError, ValueError, KeyError, AttributeError):
        return None
