"""The one record: a `Document` is an ordered list of parts, each text, a picture or an utterance.

Every source format becomes this record, and every shard holds it: the parts as JSON (`mmpt-document/1`), each picture and
utterance as a binary member of its own. In a conversation each part has the role of who said it and the number of its turn.
"""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from mmpt.errors import DataError

FORMAT = "mmpt-document/1"
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
SPEECH_SUFFIXES = ("flac", "wav", "ogg", "mp3")
Role = Literal["system", "user", "assistant", "rejected"]
"""Who says a part of a conversation; `rejected` is another last answer of the assistant, than which the first is preferred."""
ROLES: tuple[Role, ...] = get_args(Role)
_MEMBER = re.compile(r"\d+\.[a-z0-9]+")


@dataclass(frozen=True)
class Text:
    """A piece of text. `weight` scales the training loss of its tokens (0: read, never learned)."""

    text: str
    weight: float = 1.0
    role: Role | None = None
    turn: int = 0


@dataclass(frozen=True)
class Image:
    """A picture as encoded bytes (`suffix` names the codec), `width` × `height` pixels, with its alternative text."""

    data: bytes = field(repr=False)
    suffix: str
    width: int
    height: int
    alt: str = ""
    weight: float = 1.0
    role: Role | None = None
    turn: int = 0


@dataclass(frozen=True)
class Speech:
    """An utterance as encoded bytes, `duration` in seconds, with its transcript and word times (word, start s, end s)."""

    data: bytes = field(repr=False)
    suffix: str
    sample_rate: int
    duration: float
    text: str = ""
    words: tuple[tuple[str, float, float], ...] = ()
    weight: float = 1.0
    role: Role | None = None
    turn: int = 0


Part = Text | Image | Speech


@dataclass(frozen=True)
class Document:
    """Ordered parts with an `id` unique in its dataset, the `source` it came from, and free `meta` (JSON values only).

    In a conversation every part has a role; parts that follow each other with one role and one `turn` are one turn.
    """

    id: str
    source: str
    parts: tuple[Part, ...]
    meta: dict = field(default_factory=dict)


def in_place_of(part: Part, before: Part) -> Part:
    """`part` with the weight, the role and the turn of `before`."""
    return replace(part, weight=before.weight, role=before.role, turn=before.turn)


def to_record(document: Document) -> tuple[dict, dict[str, bytes]]:
    """Return (JSON object, members): members maps "INDEX.SUFFIX" to bytes, INDEX being the part's place in the document."""
    parts, members = [], {}
    for index, part in enumerate(document.parts):
        entry = {name: value for name, value in vars(part).items() if name not in ("data", "suffix")}
        for name, default in (("weight", 1.0), ("role", None), ("turn", 0)):
            if entry[name] == default:
                del entry[name]
        if not isinstance(part, Text):
            member = f"{index}.{part.suffix}"
            members[member] = part.data
            entry["member"] = member
        if isinstance(part, Speech):
            entry["words"] = [list(word) for word in part.words]
        parts.append({"type": type(part).__name__.lower(), **entry})
    return {"format": FORMAT, "id": document.id, "source": document.source, "parts": parts, "meta": document.meta}, members


def from_record(record: dict, members: dict[str, bytes]) -> Document:
    """The inverse of `to_record`. Raises `DataError` where the record is not whole: a field or a member missing or surplus."""
    if record.get("format") != FORMAT:
        raise DataError(f"format is {record.get('format')!r}, expected {FORMAT!r}")
    missing = [name for name in ("id", "source", "parts") if name not in record]
    if missing:
        raise DataError(f"field {', '.join(missing)} is missing")
    unused = set(members)
    parts = []
    for index, entry in enumerate(record["parts"]):
        try:
            parts.append(_part(entry, members, unused))
        except (KeyError, TypeError, ValueError) as problem:
            raise DataError(f"part {index}: {type(problem).__name__}: {problem}") from None
        except DataError as problem:
            raise DataError(f"part {index}: {problem}") from None
    if unused:
        raise DataError(f"member {', '.join(sorted(unused))} belongs to no part")
    return Document(str(record["id"]), str(record["source"]), tuple(parts), dict(record.get("meta", {})))


def _part(entry: dict, members: dict[str, bytes], unused: set[str]) -> Part:
    kind, weight = entry["type"], float(entry.get("weight", 1.0))
    if not (math.isfinite(weight) and weight >= 0):
        raise DataError(f"weight is {weight}, expected a number of 0 or more")
    role, turn = entry.get("role"), entry.get("turn", 0)
    if role not in (None, *ROLES):
        raise DataError(f"role is {role!r}, expected {', '.join(ROLES)}")
    if type(turn) is not int or turn < 0:
        raise DataError(f"turn is {turn!r}, expected a whole number of 0 or more")
    if kind == "text":
        return Text(str(entry["text"]), weight, role, turn)
    suffixes = {"image": IMAGE_SUFFIXES, "speech": SPEECH_SUFFIXES}.get(kind)
    if suffixes is None:
        raise DataError(f"type is {kind!r}, expected text, image or speech")
    member = entry["member"]
    if not _MEMBER.fullmatch(member) or member.rsplit(".", 1)[1] not in suffixes:
        raise DataError(f"member {member!r} is no name of {kind} data ({', '.join(suffixes)})")
    if member not in members:
        raise DataError(f"member {member} is missing")
    unused.discard(member)
    data, suffix = members[member], member.rsplit(".", 1)[1]
    if kind == "image":
        size = int(entry["width"]), int(entry["height"])
        return Image(data, suffix, *size, str(entry.get("alt", "")), weight, role, turn)
    words = tuple((str(word), float(start), float(end)) for word, start, end in entry.get("words", ()))
    rate, text = int(entry["sample_rate"]), str(entry.get("text", ""))
    return Speech(data, suffix, rate, float(entry["duration"]), text, words, weight, role, turn)
