"""Samples of WebDataset tars that others wrote: whole, or with what is wrong with them.

Headers and the zeros that pad each member are checked, so that damage is noticed where it is, and reading goes on at the next
sound header. A tar has no checksum of contents: blocks cut out so exactly that a sound tar is left cannot be noticed.
"""

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from mmpt.data.formats.hub_files import Wanted
from mmpt.data.lost import Lost
from mmpt.data.parts import MAX_BYTES
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit
from mmpt.errors import ConfigError

BLOCK = 512


@dataclass
class Sample:
    """`members` maps what follows "KEY." in a name, in small letters, to the content. With a `problem` it is not to be used."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    problem: str = ""


def tar_units(folder: str, wanted: Wanted | None = None) -> list[Unit[str]]:
    """One for each .tar in the folder that is `wanted`. Raises `ConfigError` where there is none."""
    listed = files_of(folder)
    found = [Unit(name, size) for name, size in listed.items() if name.endswith(".tar") and (not wanted or wanted.has(name))]
    if not found:
        raise ConfigError(f"{folder}: no .tar in it" + (f" {wanted.said}" if wanted else ""))
    return found


def named_samples(store: Store, name: str, source: str) -> Iterator[tuple[str, str, Sample] | Lost]:
    """(where it lies, id of its document, sample) for each of a tar of the source `source`, and damage as `read_samples`."""
    for one in read_samples(store, name):
        where, document_id = store.path(name), f"{source}/{name.removesuffix('.tar')}"
        yield one if isinstance(one, Lost) else (f"{where}: {one.key}", f"{document_id}/{one.key}", one)


def read_samples(store: Store, name: str, key: Callable[[str], str] | None = None) -> Iterator[Sample | Lost]:
    """The samples of a tar in order, and damage of which the owner is unknown. `key` says which part of a name is its sample's:
    what stands before the first dot, where none is given.

    Members of a key must follow each other, as WebDataset requires. Of a key that comes again neither sample is sound, nor is the
    one before it: a stretch doubled by damage may have put one's content after the other's header.
    """
    path, data, key = store.path(name), store.read(name), key or _key
    if not data:
        yield Lost(path, "0 bytes, no tar")
    members = []
    for member in tar_members(data):
        if member[0] and not key(member[0]).rpartition("/")[2]:
            yield Lost(f"{path}: {member[0]}", "no key before the first dot of its name", whole=False)
        else:
            members.append(member)
    # Runs of members, not members: a key whose run is broken and goes on later comes twice.
    times = Counter(run for run, _ in groupby(key(member) for member, _, _ in members if member))
    seen: set[str] = set()
    sample: Sample | None = None
    for member, place, problem in members:
        if not member:  # whatever sample is open is not to be trusted
            if sample:
                sample.problem = sample.problem or problem
            yield Lost(path, problem, whole=False)
            continue
        if sample is None or key(member) != sample.key:
            if sample:
                if key(member) in seen:
                    sample.problem = sample.problem or "a key of before comes after it"
                yield sample
            sample = Sample(key(member))
            seen.add(sample.key)
            if times[sample.key] > 1:
                sample.problem = f"its key is there {times[sample.key]} times"
        suffix = member.removeprefix(sample.key).removeprefix(".").lower()
        if problem or suffix in sample.members:
            sample.problem = sample.problem or problem or f"member {suffix} is there twice"
        else:
            sample.members[suffix] = data[slice(*place)]
    if sample:
        yield sample


def _key(name: str) -> str:
    """The part of a member's name up to the first dot of its last step, as in WebDataset."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def tar_members(data: bytes) -> Iterator[tuple[str, tuple[int, int] | None, str]]:
    """(name, (start, end), "") of each regular file; (name, None, problem) of what is none; ("", None, problem) of damage.

    Names in extended headers count, pax's `path` and GNU's long ones: without them two names may look like one.
    """
    at = 0
    extended: dict[str, str] | None = {}  # what headers before a member say of it; None: they are damaged
    while at + BLOCK <= len(data):
        header = data[at : at + BLOCK]
        if header == bytes(BLOCK):
            start, extended = at, {}
            while data[at : at + BLOCK] == bytes(BLOCK):
                at += BLOCK
            if any(data[at:]):
                yield "", None, f"zeros from byte {start} to {at}, and more after them"
            continue
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            if info.size < 0:  # which base-256 numbers can say
                raise tarfile.HeaderError("a size below 0")
        except tarfile.HeaderError as problem:
            start, at = at, _next_header(data, at + BLOCK)
            extended = {}
            yield "", None, f"damaged from byte {start} to {at} ({problem})"
            continue
        start = at + BLOCK
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            at = start + info.size + -info.size % BLOCK
            try:
                # Several such headers may stand before one member; the later one counts.
                extended = (extended or {}) | _extended(info.type, data[start : start + info.size])
            except ValueError:
                extended = None
            continue
        if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            at = start + info.size + -info.size % BLOCK
            continue
        named, extended = extended, {}
        if named is None or not named.get("size", "0").isdecimal():
            yield "", None, f"damaged extended header before byte {start}"
            at = _next_header(data, start)
            continue
        info.name, info.size = named.get("path", info.name), int(named.get("size", info.size))
        at = start + info.size + -info.size % BLOCK
        if info.isdir():
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
            yield info.name, (start, start + info.size), ""
    if any(data[at:]):
        yield "", None, f"cut short in byte {len(data)}"


def _extended(kind: bytes, content: bytes) -> dict[str, str]:
    """What an extended header says of the member after it: its name and size, in so far as it says them.

    Other records may hold anything: those of macOS's tar and of star have extended attributes, which are bytes. A name is UTF-8
    unless `hdrcharset` says that it is bytes too. Raises `ValueError` where the header is damaged.
    """
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode("utf-8")}
    found: dict[str, bytes] = {}
    at = 0
    while at < len(content):  # POSIX pax: "LENGTH KEY=VALUE\n", the length that of the whole record
        space = content.index(b" ", at)
        end = at + int(content[at:space])
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise ValueError("no record of pax")
        found[key.decode("utf-8")] = value
        at = end
    errors = "surrogateescape" if found.get("hdrcharset") == b"BINARY" else "strict"
    return {key: found[key].decode("utf-8", errors) for key in ("path", "size") if key in found}


def _next_header(data: bytes, at: int) -> int:
    """Where the next sound header begins; the end of the data where there is none."""
    while at + BLOCK <= len(data):
        if data[at + 257 : at + 262] == b"ustar":
            try:
                tarfile.TarInfo.frombuf(data[at : at + BLOCK], "utf-8", "surrogateescape")
                return at
            except tarfile.HeaderError:
                pass
        at += BLOCK
    return len(data)
