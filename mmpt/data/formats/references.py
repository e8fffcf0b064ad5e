"""Pictures that a page refers to: files of its tree, or data written into the page itself."""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from mmpt.data.lost import Lost
from mmpt.data.parts import MAX_BYTES, image_part
from mmpt.document import Image, Text
from mmpt.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".svg", ".ico", ".apng")
"""Ends of the names of picture files, where nothing else says what a reference is."""
_DATA = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


class NotFetched(DataError):
    """A picture that lies elsewhere by design: no fault of the folder."""


@dataclass(frozen=True)
class Picture:
    """A picture where a page shows it.

    `targets` are the references to it as written, the best first: any of them will do. `alt` is its alternative text, `line`
    where it stands, from 1 (0: not known). `anywhere`: a bare name means the file of that name in any folder. With a
    `reason` it cannot be had whatever its targets say, and `rule` names the option that left it out on purpose.
    """

    targets: tuple[str, ...]
    alt: str
    line: int
    anywhere: bool = False
    reason: str = ""
    rule: str = ""

    @property
    def short(self) -> str:
        """The first target for a message: of data in the page only the beginning."""
        target = self.targets[0] if self.targets else ""
        return target if len(target) <= 200 else f"{target[:60]}… ({len(target)} characters)"


class Files(Protocol):
    """What holds the files around a page: a folder (`Store`), or an archive."""

    def path(self, name: str) -> str: ...

    def files(self) -> dict[str, int]: ...

    def exists(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes: ...


class Folder:
    """The files around a page. They are listed only when a reference names one without its folder.

    `public` are folders whose files a site shows at its root: a reference from the root may mean a file of theirs.
    """

    def __init__(self, store: Files, public: tuple[str, ...] = ()) -> None:
        self.store, self.public = store, public

    @cached_property
    def by_name(self) -> dict[str, str]:
        """Last step of a file's name in lower case → its name; of several the one of the shortest path."""
        # The shortest path comes last, and so is what stays of equal names.
        names = sorted(self.store.files(), key=lambda name: (name.count("/"), name), reverse=True)
        return {PurePosixPath(name).name.lower(): name for name in names}

    def referred(self, name: str, picture: Picture) -> Image:
        """The part for a picture that the file `name` refers to: the first of its targets that can be had.

        A picture of one pixel is a stand-in where there are other targets. Raises `DataError` where none lies in the folder
        (nothing is fetched), or none is a picture.
        """
        problems = [] if not picture.reason else [DataError(picture.reason)]
        for target in picture.targets if not picture.reason else ():
            try:
                image = image_part(self._data(name, target, picture.anywhere), picture.alt)
            except DataError as problem:
                problems.append(problem)
                continue
            if image.width * image.height > 1 or len(picture.targets) == 1:
                return image
        raise problems[0] if problems else DataError("only a stand-in of one pixel" if picture.targets else "names no file")

    def _data(self, name: str, target: str, anywhere: bool) -> bytes:
        if _DATA.match(target):
            return embedded(target)
        found = target_name(name, target)
        if target.startswith("/") and not self.store.exists(found):
            shown = [f"{folder.strip('/')}/{found}" for folder in self.public]
            found = next((one for one in shown if self.store.exists(one)), found)
        if anywhere and not self.store.exists(found):
            found = self.by_name.get(PurePosixPath(found).name.lower(), found)
        return self.store.read(found)


def page_parts(
    store: Files, name: str, document_id: str, blocks: Iterable[str | Picture], public: tuple[str, ...] = ()
) -> Iterator[Text | Image | Lost]:
    """The parts of the page in the file `name`, in order, and for each picture that cannot be had what was lost."""
    folder = Folder(store, public)
    for block in blocks:
        if isinstance(block, str):
            yield Text(block)
            continue
        try:
            yield folder.referred(name, block)
        except DataError as problem:
            where = f"{store.path(name)}, line {block.line}" if block.line else store.path(name)
            part = "" if block.reason or isinstance(problem, NotFetched) else "image"  # one that the folder should hold
            yield Lost(f"{where}: {block.short}", str(problem), document_id, whole=False, rule=block.rule, part=part)


def is_picture_file(target: str) -> bool:
    """Whether a reference names a picture by its suffix, or is one itself."""
    if target[:11].lower() == "data:image/":
        return True
    return target.partition("#")[0].partition("?")[0].rstrip().lower().endswith(SUFFIXES)


def target_name(name: str, target: str) -> str:
    """Name in the folder of what the file `name` refers to as `target`, a path relative to it, or to the folder after a "/".

    Percent-escapes are decoded, query and fragment left out, "\\" is "/" as in browsers. Raises `DataError` where it lies
    elsewhere.
    """
    try:
        parsed = urlsplit(target.replace("\\", "/"))
    except ValueError as problem:
        raise DataError(f"no reference ({problem})") from None
    if parsed.scheme or parsed.netloc:
        raise NotFetched("not in the folder: pictures elsewhere are not fetched")
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
