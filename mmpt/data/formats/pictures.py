"""Pictures that a row refers to, found in a folder."""

import hashlib
from typing import Literal
from urllib.parse import urlsplit

from mmpt.data.formats.row_media import medium_bytes
from mmpt.data.parts import image_part
from mmpt.data.store import Store
from mmpt.document import IMAGE_SUFFIXES, Image
from mmpt.errors import DataError

SUFFIXES = (*IMAGE_SUFFIXES, "gif", "bmp", "tif", "tiff", "avif", "heic", "jfif", "jp2")
"""What names of picture files end with, in small letters; whether one can be decoded, `image_part` says."""
Naming = Literal["path", "basename", "sha256"]
"""How a reference names a file: as it stands; by the last step of its path; by the SHA-256 of it, as OmniCorpus does."""


def find_picture(store: Store, reference: object, naming: Naming, alt: str = "") -> Image:
    """The picture part for a reference, or for one that a row holds itself, {bytes, path}. Raises `DataError` where there is no
    such file, or it is no picture."""
    if isinstance(reference, dict):
        return image_part(medium_bytes(store, reference), alt)
    if not isinstance(reference, str) or not reference:
        raise DataError(f"{reference!r} is no reference to a picture")
    if naming == "path":
        return image_part(store.read(reference), alt)
    if naming == "basename":
        return image_part(store.read(_last_step(reference)), alt)
    stem = hashlib.sha256(reference.encode("utf-8", "surrogatepass")).hexdigest()
    for suffix in SUFFIXES:
        if store.exists(f"{stem}.{suffix}"):
            return image_part(store.read(f"{stem}.{suffix}"), alt)
    raise DataError(f"{store.path(stem)}.*: no such file")


def _last_step(reference: str) -> str:
    try:
        return urlsplit(reference).path.rpartition("/")[2]
    except ValueError as problem:  # such as brackets that are no address
        raise DataError(f"{reference!r} is no reference to a picture ({problem})") from None


def caption(value: object) -> str | None:
    """A caption given as text, or the first of a list of them; None where there is none."""
    texts = value if isinstance(value, list) else [value]
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)
