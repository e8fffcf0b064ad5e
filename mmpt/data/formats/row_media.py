"""The bytes of a picture or recording that a row refers to, or holds itself."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmpt.data.formats.references import embedded
from mmpt.data.store import Store
from mmpt.errors import DataError


def medium_bytes(store: Store, reference: object) -> bytes:
    """Bytes for a file's name below `store` (also as a file: URL, or from the root), a data: URL, or {"bytes", "path"} as
    tables have it.

    Raises `DataError` where there is no such file, it lies outside the folder, or elsewhere: nothing is fetched.
    """
    if isinstance(reference, dict):
        if isinstance(reference.get("bytes"), bytes) and reference["bytes"]:
            return reference["bytes"]
        reference = reference.get("path")
    if not isinstance(reference, str) or not reference:
        raise DataError(f"{_short(reference)} is no reference to a file")
    if reference[:5].lower() == "data:":
        return embedded(reference)
    if reference[:7].lower() in ("http://", "https:/"):
        raise DataError(f"{_short(reference)}: not in the folder: what lies elsewhere is not fetched")
    if reference[:7].lower() == "file://":
        reference = unquote(urlsplit(reference).path)
    if reference.startswith("/") and store.is_local:
        folder = Path(store.location).absolute()
        if not Path(reference).is_relative_to(folder):
            raise DataError(f"{_short(reference)}: leads out of {store.location}")
        reference = str(Path(reference).relative_to(folder))
    return store.read(reference)


def _short(reference: object) -> str:
    text = repr(reference)
    return text if len(text) <= 200 else f"{text[:60]}… ({len(text)} characters)"
