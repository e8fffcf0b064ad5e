"""Pictures that a page refers to: files of its tree, or data written into the page itself."""

import base64
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from mmpt.data.parts import MAX_BYTES, image_part
from mmpt.data.store import Store
from mmpt.document import Image
from mmpt.errors import DataError

_DATA = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """A reference to a picture: `target` as written, its alternative text, and the `line` where it stands, from 1."""

    target: str
    alt: str
    line: int

    @property
    def short(self) -> str:
        """The target for a message: of data in the page only the beginning."""
        return self.target if len(self.target) <= 200 else f"{self.target[:60]}… ({len(self.target)} characters)"


def referred(store: Store, name: str, picture: Picture) -> Image:
    """The part for a picture that the file `name` refers to.

    Raises `DataError` where it lies outside the folder or elsewhere (nothing is fetched), is missing, or is no picture.
    """
    data = embedded(picture.target) if _DATA.match(picture.target) else store.read(target_name(name, picture.target))
    return image_part(data, picture.alt)


def target_name(name: str, target: str) -> str:
    """Name in the folder of what the file `name` refers to as `target`, a path relative to it, or to the folder after a "/".

    Percent-escapes are decoded, query and fragment left out. Raises `DataError` where it lies elsewhere.
    """
    try:
        parsed = urlsplit(target)
    except ValueError as problem:
        raise DataError(f"no reference ({problem})") from None
    if parsed.scheme or parsed.netloc:
        raise DataError("not in the folder: pictures elsewhere are not fetched")
    path = unquote(parsed.path)
    if not path:
        raise DataError("names no file")
    steps: list[str] = []
    for step in (PurePosixPath(path.lstrip("/")) if path.startswith("/") else PurePosixPath(name).parent / path).parts:
        if step == "..":
            if not steps:
                raise DataError("leads out of the folder")
            steps.pop()
        else:
            steps.append(step)
    return "/".join(steps)


def embedded(target: str) -> bytes:
    """The bytes of a data: URI (RFC 2397). Raises `DataError` where it is none, or too long, before anything is decoded."""
    head = _DATA.match(target)
    if head is None:
        raise DataError("no data: URL")
    body = target[head.end() :]
    if len(body) > 3 * MAX_BYTES:  # no coding is longer: a percent-escape is three characters for a byte
        raise DataError(f"data of {len(body)} characters, at most {3 * MAX_BYTES} are decoded")
    data = unquote_to_bytes(body)
    if not head[1]:
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError as problem:
        raise DataError(f"no base64 ({problem})") from None
