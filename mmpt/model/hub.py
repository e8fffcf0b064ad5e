"""Checkpoints on the Hugging Face hub: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`, stands for one as a folder does."""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mmpt.errors import CheckpointError, ConfigError
from mmpt.storage import MANIFEST, check_folder, is_missing_folder, link_tree, published_folder, write_bytes

CARD = "README.md"
_NAME = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")  # a path has lost one of the slashes
_TRAINING = "training"
CHECKPOINT = "mmpt-checkpoint/1"


def on_hub(path: Path | str) -> tuple[str, str | None] | None:
    """(repository, revision) of what is written as one on the hub, None of any other path."""
    found = _NAME.fullmatch(str(path))
    return (found["repository"], found["revision"]) if found else None


def pulled(path: Path | str) -> Path:
    """`path` itself, or where it is on the hub the folder of its files, in the hub's own cache. Raises `CheckpointError` where
    they cannot be had."""
    name = on_hub(path)
    if name is None:
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name[0], revision=name[1]))
    except Exception as problem:  # its own, those of the HTTP client that it has at the moment, and the system's
        raise CheckpointError(f"hf://{name[0]}: cannot be had from the hub ({' '.join(str(problem).split())})") from None


def destination(to: str) -> tuple[str, bool]:
    """(repository or folder, whether it is on the hub): OWNER/NAME is, unless that is a folder here or a path was meant."""
    if name := on_hub(to):
        if name[1]:
            raise ConfigError(f"{to}: it goes to the main branch, expected no revision")
        return name[0], True
    return to, to.count("/") == 1 and not Path(to).exists() and not is_missing_folder(to)


def push(
    checkpoint: Path,
    to: str,
    form: str,
    card: Callable[[str], str],
    private: bool = False,
    write: Callable[[Path], object] | None = None,
) -> str:
    """Put the checkpoint of format `form` without its optimizer's state, or what `write` makes of it in a new folder, with its
    model card (`card` of how it is named to load it), into a new folder or a repository on the hub; returns where it is.

    Raises `ConfigError` where the folder is there already, or the hub refuses it, and `CheckpointError` where files are damaged.
    """
    manifest = check_folder(checkpoint, form)
    name, hub = destination(to)
    if not hub:
        folder = Path(name)
        if folder.exists():
            raise ConfigError(f"{folder}: it exists already")
        (write or (lambda out: _put(checkpoint, manifest, out)))(folder)
        write_bytes(folder / CARD, card(str(folder)).encode())
        return str(folder)
    # Beside the checkpoint, so that its files are links.
    with tempfile.TemporaryDirectory(prefix=".push-", dir=checkpoint.parent) as temporary:
        folder = Path(temporary) / "files"
        (write or (lambda out: _put(checkpoint, manifest, out)))(folder)
        write_bytes(folder / CARD, card(f"hf://{name}").encode())
        return _upload(folder, name, private, f"Step {manifest['step']}" if "step" in manifest else "A checkpoint")


def _put(checkpoint: Path, manifest: dict, out: Path) -> None:
    about = {key: value for key, value in manifest.items() if key not in ("files", "seal")}
    with published_folder(out, about, manifest["files"]) as folder:
        link_tree(checkpoint, folder)
        (folder / MANIFEST).unlink()  # of all files, those of the optimizer too
        shutil.rmtree(folder / _TRAINING, ignore_errors=True)


def _upload(folder: Path, repository: str, private: bool, message: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi(library_name="mmpt")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message))
    except Exception as problem:  # as above
        raise ConfigError(f"hf://{repository}: the hub does not take it ({' '.join(str(problem).split())})") from None
