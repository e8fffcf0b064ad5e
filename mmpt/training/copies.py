"""Copies of a run's checkpoints elsewhere, to go on from where this machine's disk is gone."""

import os
import shutil
import sys
from pathlib import Path

from mmpt.data.store import Store
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import MANIFEST, check_folder, read_json

FOLDER = "checkpoints"


def copy_out(checkpoint: Path, to: str, keep: int) -> None:
    """Copy a published checkpoint to the folder or URL `to`, and remove all but the newest `keep` there.

    Its manifest comes last, so that a copy with one is whole; what the copy before has already is copied there and not sent
    again. Where that fails after all attempts a line on stderr says so, and the training goes on: the checkpoint itself is there.
    """
    try:
        store = Store(to)
        name, before = f"{FOLDER}/{checkpoint.name}", [step for step in copies(store) if step != checkpoint.name]
        files = read_json(checkpoint / MANIFEST, CheckpointError)["files"]
        known = _files(store, before[-1]) if before else {}
        for file, entry in files.items():
            if known.get(file) == entry:
                store.duplicate(f"{FOLDER}/{before[-1]}/{file}", f"{name}/{file}")
            else:
                store.copy(f"{name}/{file}", checkpoint / file)
        store.copy(f"{name}/{MANIFEST}", checkpoint / MANIFEST)
        for old in before[: max(0, len(before) + 1 - keep)]:
            store.remove(f"{FOLDER}/{old}/{MANIFEST}")
            store.remove(f"{FOLDER}/{old}")
    except (DataError, CheckpointError) as problem:
        print(f"{checkpoint}: not copied to {to}: {problem}", file=sys.stderr, flush=True)


def copies(store: Store) -> list[str]:
    """Names of the whole checkpoints there, the oldest first."""
    try:
        names = store.files()
    except DataError:  # no such folder yet
        return []
    parts = [name.split("/") for name in names]
    return sorted(one[1] for one in parts if len(one) == 3 and one[0] == FOLDER and one[2] == MANIFEST)


def fetch(run: Path, source: str, form: str) -> Path | None:
    """Bring the newest copy from `source` to `run`/checkpoints, checked against its hashes; None where there is none.

    Raises `CheckpointError` where it is damaged, `DataError` where it cannot be read.
    """
    store = Store(source)
    found = copies(store)
    if not found:
        return None
    final = run / FOLDER / found[-1]
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        for file in [*_files(store, found[-1]), MANIFEST]:
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            store.download(f"{FOLDER}/{found[-1]}/{file}", temporary / file)
        check_folder(temporary, form)
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _files(store: Store, name: str) -> dict[str, dict]:
    """The files of a copy, as its manifest lists them. Raises `CheckpointError` where that is none, or names paths outside."""
    files = store.json(f"{FOLDER}/{name}/{MANIFEST}").get("files")
    if not isinstance(files, dict) or any(".." in Path(file).parts or Path(file).is_absolute() for file in files):
        raise CheckpointError(f"{store.path(f'{FOLDER}/{name}/{MANIFEST}')}: it lists no files of a checkpoint")
    return files
