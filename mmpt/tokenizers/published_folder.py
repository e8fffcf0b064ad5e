"""Folders and Hugging Face names of published tokenizers: which kind they are, and the folder that training keeps of one.

    manifest.json    mmpt-published-tokenizer/1, with the hash of every file
    published.json   the settings: kind, codebooks, layout, …
    model/           config.json, weights, and what else the library reads

A folder or name of Hugging Face alone does as well; its settings are then the defaults of its kind.
"""

from pathlib import Path
from typing import Any, NamedTuple

from mmpt.config import Schema, parse_config
from mmpt.errors import CheckpointError
from mmpt.storage import MANIFEST, check_folder, is_missing_folder, published_folder, read_json, write_json
from mmpt.tokenizers.figures import Figures
from mmpt.tokenizers.published import Published

FORMAT = "mmpt-published-tokenizer/1"
CONFIG = "config.json"
SETTINGS = "published.json"
INDEX = "model.safetensors.index.json"


class Opened(NamedTuple):
    """A published tokenizer before its weights are read: its settings, the folder of its checkpoint, and its config.json."""

    settings: Published
    folder: Path
    config: dict[str, Any]

    @property
    def figures(self) -> Figures:
        """Raises `ConfigError` where settings and checkpoint do not fit."""
        return self.settings.figures(self.config)


def is_published(path: Path | str) -> bool:
    """Whether it is no tokenizer trained here: a folder of this format, one without a manifest, or a name."""
    manifest = Path(path) / MANIFEST
    return not manifest.is_file() or read_json(manifest, CheckpointError).get("format") == FORMAT


def opened(path: Path | str) -> Opened:
    """What lies in the folder, or has the name, `path`. Raises `CheckpointError` where it is none, or damaged."""
    folder = local_folder(path)
    if (folder / MANIFEST).is_file():
        check_folder(folder, FORMAT)
        settings = parse_config({"published": read_json(folder / SETTINGS, CheckpointError)}, ImportSpec, f"{folder}/{SETTINGS}")
        return Opened(settings.published, folder / "model", read_json(folder / "model" / CONFIG, CheckpointError))
    config = read_json(folder / CONFIG, CheckpointError)
    return Opened(_of_type(config, folder).model_construct(model=str(path)), folder, config)


def local_folder(path: Path | str) -> Path:
    """`path` where it is a folder, else the files of that name on the Hugging Face Hub that make up its tokenizer.

    Raises `CheckpointError` where it is neither, or no tokenizer.
    """
    if Path(path).is_dir():
        if not any((Path(path) / name).is_file() for name in (MANIFEST, CONFIG)):
            raise CheckpointError(f"{path}: neither {MANIFEST} nor {CONFIG} is there, so this is no finished tokenizer")
        return Path(path)
    if is_missing_folder(path):
        raise CheckpointError(f"{path}: no such folder")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        small = Path(snapshot_download(str(path), allow_patterns=["*.json"]))
        kind = _of_type(read_json(small / CONFIG, CheckpointError), Path(path))
        index = read_json(small / INDEX)["weight_map"] if (small / INDEX).is_file() else {}
        names = [one.rfilename for one in HfApi().model_info(str(path)).siblings or ()]
        return Path(snapshot_download(str(path), allow_patterns=kind.model_construct(model=str(path)).files(names, index)))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise CheckpointError(f"{path}: no folder, and no tokenizer of the Hub ({reason})") from None


def import_tokenizer(settings: Published, out: Path, source: Path | None = None) -> Opened:
    """Publish in `out` the tokenizer that `settings` name, of the checkpoint in `source` or of their own.

    Raises `CheckpointError` where there is none, or one of another kind, `ConfigError` where the settings do not fit it.
    """
    source = source or local_folder(settings.model)
    kind = _of_type(read_json(source / CONFIG, CheckpointError), source)
    if kind.kind != settings.kind:
        raise CheckpointError(f"{settings.model}: published.kind is {settings.kind}, its {CONFIG} is of {kind.kind}")
    settings.figures(read_json(source / CONFIG, CheckpointError))
    with published_folder(out, {"format": FORMAT}) as temporary:
        write_json(temporary / SETTINGS, settings.model_dump(mode="json"))
        settings.take(source, temporary / "model")
    return opened(out)


class ImportSpec(Schema):
    """What tokenizers/import.py is told."""

    published: Published
    """The tokenizer that is taken over."""


def _of_type(config: dict[str, Any], folder: Path) -> type[Published]:
    """The kind whose config.json this is."""
    found = config.get("model_type")
    members = [Published.member(kind) for kind in Published.names()]
    for member in members:
        if found in member.models and member.is_of(config):
            return member
    known = ", ".join(sorted({name for member in members for name in member.models}))
    raise CheckpointError(f"{folder}/{CONFIG}: model_type is {found!r}, expected a tokenizer's ({known})")
