"""A folder of weights, told from what it was before."""

import hashlib
from pathlib import Path


def folder_state(name: str) -> str:
    """A hash of the names, sizes and times of the files in a local folder; the name itself of anything else, such as a repository
    of the Hugging Face hub."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    files = sorted((str(path.relative_to(folder)), path.stat()) for path in folder.rglob("*") if path.is_file())
    said = "\n".join(f"{path} {status.st_size} {status.st_mtime_ns}" for path, status in files)
    return hashlib.sha256(said.encode()).hexdigest()
