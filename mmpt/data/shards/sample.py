"""The bytes of one sample: `KEY.json` and its binary members, one after the other in a tar, the same on every machine.

POSIX ustar (IEEE Std 1003.1, pax, "ustar Interchange Format"): a header block of 512 bytes, then the data padded to blocks.
"""

import json
import re
import tarfile
from collections.abc import Callable

from mmpt.errors import DataError

BLOCK = 512
END = bytes(2 * BLOCK)
_SUFFIX = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)?")


def shard_name(*numbers: int) -> str:
    """`shard-00000.tar`, or `shard-00012-00000.tar` for a shard of a numbered task: names sort in the order of writing."""
    return f"shard-{'-'.join(f'{number:05d}' for number in numbers)}.tar"


def sample_key(shard: str, number: int) -> str:
    """Key of a sample by its shard's file name and its number in there: unique in the set, and no shard passes for another.

    `shard-00012.tar`, 34 → `00012-000034`.
    """
    return f"{shard.removeprefix('shard-').removesuffix('.tar')}-{number:06d}"


def encode_sample(key: str, members: dict[str, bytes]) -> bytes:
    """Tar bytes of a sample; `members` maps the part of a name after "KEY." to its content. No time, owner or path enters."""
    blocks = []
    for suffix, data in members.items():
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(data)
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % BLOCK)]
    return b"".join(blocks)


def decode_sample(data: bytes, key: str) -> dict[str, bytes]:
    """The inverse of `encode_sample`.

    Raises `DataError` on anything but whole regular files named KEY.SUFFIX: links, folders, paths, members of another sample,
    a member twice, a member cut short, no `KEY.json`.
    """
    members: dict[str, bytes] = {}
    offset = 0
    while offset < len(data):
        name, size = _decode_header(data[offset : offset + BLOCK])
        owner, _, suffix = name.partition(".")
        if owner != key or not _SUFFIX.fullmatch(suffix):
            raise DataError(f"member {name!r} is no name of a member of sample {key}")
        if suffix in members:
            raise DataError(f"member {name!r} is there twice")
        start = offset + BLOCK
        offset = start + size + -size % BLOCK
        if offset > len(data):
            raise DataError(f"member {name!r} is cut short")
        members[suffix] = data[start : start + size]
    if "json" not in members:
        raise DataError("member json is missing")
    return members


def find_member(read: Callable[[int, int], bytes], size: int, key: str, suffix: str) -> bytes:
    """The member KEY.SUFFIX of a sample of `size` bytes, of which `read` (offset, bytes) gives a piece: the headers before it and
    the member itself are all that is read. Raises `DataError` where it is not there, or cut short."""
    offset = 0
    while offset < size:
        name, length = _decode_header(read(offset, BLOCK))
        start = offset + BLOCK
        if name == f"{key}.{suffix}":
            data = read(start, length)
            if len(data) != length or start + length > size:
                break
            return data
        offset = start + length + -length % BLOCK
    raise DataError(f"member {suffix} is missing or cut short")


def _decode_header(header: bytes) -> tuple[str, int]:
    """(name, size in bytes) of a regular file. Only what `encode_sample` writes is read, many times faster than by tarfile."""
    try:
        if len(header) < BLOCK or header[257:263] != b"ustar\0":
            raise ValueError("no ustar header")
        if int(header[148:154], 8) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
            raise ValueError("its checksum is wrong")
        name, size, kind = header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8), header[156:157]
    except ValueError as problem:
        raise DataError(f"a damaged tar header ({problem})") from None
    if kind != tarfile.REGTYPE or header[345:346] != b"\0" or size < 0:
        raise DataError(f"member {name!r} is no regular file in the root of the tar")
    return name, size


def encode_json(record: dict) -> bytes:
    """JSON with a stable order of keys. Raises ValueError or TypeError on NaN, broken Unicode and what JSON cannot hold."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def decode_json(data: bytes) -> dict:
    """The JSON object in a sample's `json` member. Raises `DataError`."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"json: not valid JSON ({problem})") from None
    if not isinstance(record, dict):
        raise DataError(f"json: expected an object, found {type(record).__name__}")
    return record
