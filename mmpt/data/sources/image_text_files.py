"""Pictures of a folder, each with its text in a file of its name.

sources: [{kind: image_text_files, folder: pictures/, text: txt}]
"""

import re
import zlib
from pathlib import PurePosixPath
from typing import Literal

import pydantic

from mmpt.config import Expression
from mmpt.data.formats.pictures import SUFFIXES, caption
from mmpt.data.formats.xml_tree import local_name, words_of, xml_root
from mmpt.data.lost import Documents
from mmpt.data.parts import image_part
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Text
from mmpt.errors import DataError

_SERIES = re.compile(r"[\W\d_]+[a-z]?$")


class ImageTextFiles(FileSource):
    """Pictures each with its text beside it: the first line of NAME.txt, as collections of pictures have it most (Tux Paint's
    stamps, tuxpaint.org, do), or what NAME.svg or NAME.xmp says by Dublin Core (openclipart.org, and whatever photographs are
    tagged with): its title and its subjects.

    NAME is the path without its suffix; those of one series, that differ in a number at the end, are on one side of the split.
    """

    suffixes = tuple(f".{suffix}" for suffix in SUFFIXES)

    texts: str = ""
    """Folder or URL of the files with the texts, in which they lie as the pictures in theirs; by default that of the pictures."""
    text: Literal["txt", "svg", "xmp"] = "txt"
    """Suffix of the files with the texts."""
    split: Literal["all", "train", "test"] = "all"
    """Which side of the split."""
    held_out_every: int = pydantic.Field(default=10, ge=2)
    """One series of so many is on the test side, by the CRC-32 of its name."""
    leave_out: Expression = ""
    """Regular expression of what is cut out of titles and subjects, since it says nothing of the picture."""

    def units(self) -> list[Unit[list[str]]]:
        """Runs of files of the side that is asked for. Raises `ConfigError` where there is no folder, or no such file in it."""
        found = super().units()
        return [Unit([name for name in unit.what if self._wanted(name)], unit.size) for unit in found]

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """(Image, text). Raises `DataError` where one of both is missing or damaged."""
        path = str(PurePosixPath(name).with_suffix(f".{self.text}"))
        data = (Store(self.texts) if self.texts else store).read(path)
        try:
            text = caption(data.decode("utf-8").partition("\n")[0] if self.text == "txt" else self._described(data))
        except (DataError, UnicodeDecodeError) as problem:
            raise DataError(f"{path}: {problem}") from None
        if text is None:
            raise DataError(f"no text in {path}")
        yield Document(
            document_id, self.source_name(self.folder), (image_part(store.read(name), text), Text(text)), self.meta(name)
        )

    def _wanted(self, name: str) -> bool:
        series = _SERIES.sub("", str(PurePosixPath(name).with_suffix("")))
        return self.split == "all" or (self.split == "test") == (zlib.crc32(series.encode()) % self.held_out_every == 0)

    def _described(self, data: bytes) -> str:
        root = xml_root(data)
        found = [words_of(node) for node in root.iter("{*}title") if _about(node, "Work", "Description")][:1]
        for subject in root.iter("{*}subject"):
            found += [words_of(node) for node in subject.iter("{*}li")]
        said = (re.sub(self.leave_out, "", word).replace("_", " ").strip() for word in found)
        return ", ".join(dict.fromkeys(word for word in said if word))


def _about(node, *names: str) -> bool:
    """Whether an element stands in a description of the whole: a title is also that of a person, or of a shape."""
    above = node.getparent()
    while above is not None and local_name(above) in ("Alt", "li", "title"):
        above = above.getparent()
    return above is not None and local_name(above) in names
