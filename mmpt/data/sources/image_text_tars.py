"""Pictures with captions in WebDataset tars, as img2dataset writes them: KEY.jpg with KEY.txt or KEY.json.

sources: [{kind: image_text_tars, folder: laion/}]
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import MAX_BYTES, image_part
from mmpt.data.shards.sample import decode_json
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.store import Store
from mmpt.document import IMAGE_SUFFIXES, Document, Text
from mmpt.errors import ConfigError, DataError

BLOCK = 512


class ImageTextTarsConfig(SourceSchema):
    """Every .tar in `folder`. The caption is KEY.txt, else the field `caption` of KEY.json, whose other fields go to the meta."""

    kind: Literal["image_text_tars"] = "image_text_tars"
    folder: str
    caption: str = "caption"
    language: str = ""
    license: str = ""


def units(config: ImageTextTarsConfig) -> list[Unit]:
    """One for each tar. Raises `ConfigError` where there is none."""
    try:
        files = Store(config.folder).files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    found = [Unit(name, size) for name, size in files.items() if name.endswith(".tar")]
    if not found:
        raise ConfigError(f"{config.folder}: no .tar in it")
    return found


def read(config: ImageTextTarsConfig, unit: Unit) -> Documents:
    """One document for each sample: (image, text). A sample is whole, or it is listed; nothing of another is put to it.

    Headers and the zeros that pad each member are checked, so that damage is noticed where it is, and reading goes on at the
    next sound header. Members of a key must follow each other, as WebDataset requires; of a key that comes again, neither
    sample is taken: a stretch doubled by damage may have put one's text after the other's header.
    """
    store = Store(config.folder)
    path, stem = store.path(unit.what), unit.what.removesuffix(".tar")
    source = source_name(config, config.folder)
    members = list(_members(store.read(unit.what)))
    times = Counter(key for key, _ in groupby(_key(name) for name, _, _ in members if name))
    group: dict[str, bytes] = {}
    key, broken = "", ""
    for name, content, problem in [*members, ("", None, "")]:
        if problem and not name:  # damage of which the owner is unknown: whatever sample is open is not to be trusted
            broken = broken or problem
            yield Lost(path, problem, whole=False)
            continue
        if _key(name) != key or not name:
            if key:
                yield from _sample(config, f"{path}: {key}", f"{source}/{stem}/{key}", group, broken)
            key, group = _key(name), {}
            broken = f"its key is there {times[key]} times" if times[key] > 1 else ""
        suffix = name.rpartition("/")[2].partition(".")[2].lower()
        if problem:
            broken = broken or problem
        elif suffix in group:
            broken = broken or f"member {suffix} is there twice"
        elif content is not None:
            group[suffix] = content


def _key(name: str) -> str:
    """The part of a member's name up to the first dot of its last step, as in WebDataset."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _sample(config: ImageTextTarsConfig, where: str, document_id: str, group: dict[str, bytes], broken: str) -> Documents:
    try:
        if broken:
            raise DataError(broken)
        images = [name for name in group if name in IMAGE_SUFFIXES]
        if len(images) != 1:
            raise DataError(f"{len(images)} pictures, expected one (members: {', '.join(group)})")
        meta = decode_json(group["json"]) if "json" in group else {}
        text = group["txt"].decode("utf-8") if "txt" in group else meta.pop(config.caption, None)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"no caption (members: {', '.join(group)})")
        picture = image_part(group[images[0]], text)
    except (DataError, UnicodeDecodeError) as problem:
        yield Lost(where, str(problem), document_id)
        return
    meta |= {key: value for key, value in (("language", config.language), ("license", config.license)) if value}
    yield Document(document_id, source_name(config, config.folder), (picture, Text(text)), meta)


def _members(data: bytes) -> Iterator[tuple[str, bytes | None, str]]:
    """(name, content, "") of each regular file; (name, None, problem) of what is none; ("", None, problem) of damage."""
    at = 0
    while at + BLOCK <= len(data):
        header = data[at : at + BLOCK]
        if header == bytes(BLOCK):
            start = at
            while data[at : at + BLOCK] == bytes(BLOCK):
                at += BLOCK
            if any(data[at:]):
                yield "", None, f"zeros from byte {start} to {at}, and more after them"
            continue
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as problem:
            start, at = at, _next_header(data, at + BLOCK)
            yield "", None, f"damaged from byte {start} to {at} ({problem})"
            continue
        start = at + BLOCK
        at = start + info.size + -info.size % BLOCK
        if info.type in (tarfile.DIRTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE):
            continue
        if not info.isreg():
            yield info.name, None, f"member {info.name!r} is a link or no file"
        elif info.name.startswith("/") or ".." in info.name.split("/"):
            yield info.name, None, f"member {info.name!r} leads out of the folder"
        elif at > len(data):
            yield info.name, None, f"member {info.name!r} is cut short"
        elif info.size > MAX_BYTES:
            yield info.name, None, f"member {info.name!r} of {info.size} bytes, at most {MAX_BYTES} are read"
        elif any(data[start + info.size : at]):
            # What pads a member is zero: else its size or its place is wrong, and so may be its content.
            yield info.name, None, f"member {info.name!r} is not followed by zeros"
            yield "", None, f"damaged after byte {start}"
            at = _next_header(data, start)
        else:
            yield info.name, data[start : start + info.size], ""
    if any(data[at:]):
        yield "", None, f"cut short in byte {len(data)}"


def _next_header(data: bytes, at: int) -> int:
    """Where the next sound header begins; the end of the data where there is none."""
    while at + BLOCK <= len(data):
        if data[at + 257 : at + 262] == b"ustar":
            try:
                tarfile.TarInfo.frombuf(data[at : at + BLOCK], "utf-8", "strict")
                return at
            except (tarfile.HeaderError, UnicodeDecodeError):
                pass
        at += BLOCK
    return len(data)
