"""Pictures that a row refers to, found in a folder."""

import hashlib
from typing import Literal
from urllib.parse import urlsplit

from mmpt.data.parts import image_part
from mmpt.data.store import Store
from mmpt.document import IMAGE_SUFFIXES, Image
from mmpt.errors import DataError

Naming = Literal["path", "basename", "sha256"]
"""How a reference names a file: as it stands; by the last step of its path; by the SHA-256 of it, as OmniCorpus does."""


def find_picture(store: Store, reference: str, naming: Naming, alt: str = "") -> Image:
    """The picture part for a reference. Raises `DataError` where there is no such file, or it is no picture."""
    if not isinstance(reference, str) or not reference:
        raise DataError(f"{reference!r} is no reference to a picture")
    if naming == "path":
        return image_part(store.read(reference), alt)
    if naming == "basename":
        return image_part(store.read(urlsplit(reference).path.rpartition("/")[2]), alt)
    stem = hashlib.sha256(reference.encode()).hexdigest()
    for suffix in IMAGE_SUFFIXES:
        if store.exists(f"{stem}.{suffix}"):
            return image_part(store.read(f"{stem}.{suffix}"), alt)
    raise DataError(f"{store.path(stem)}.*: no such file")
