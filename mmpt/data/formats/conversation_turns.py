"""Turns of a conversation, each a list of text and references to media in place, from the forms in which rows hold them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmpt.document import Role
from mmpt.errors import DataError

ROLES: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
PLACES = {"<image>": "image", "<audio>": "audio"}
_NO_VIDEO = "video is not read"
_TURNS = ("conversations", "conversation", "messages")
_LISTS = {"image": ("images", "image"), "audio": ("audios", "audio")}
_VIDEO = ("videos", "video")
_PIECES = {  # type of a piece → (kind of media, the keys of which one refers to it)
    "image": ("image", ("image", "url", "path")),
    "image_url": ("image", ("image_url",)),
    "audio": ("audio", ("audio", "audio_url", "url", "path")),
    "audio_url": ("audio", ("audio_url",)),
    "input_audio": ("audio", ("input_audio",)),
}


@dataclass(frozen=True)
class Medium:
    """A picture or recording ("image", "audio") that stands in a turn, and what refers to it: text or {"bytes", "path"}."""

    kind: str
    reference: object


@dataclass
class Turn:
    role: Role
    pieces: list[str | Medium] = field(default_factory=list)


def read_turns(row: dict) -> tuple[list[Turn], set[str]]:
    """The turns of a row, and the keys in it that are not understood (what they say is not in the turns).

    Media that the row lists go, in order, to the places `<image>` and `<audio>` and to pieces without a reference of their
    own; those without a place to the front of the first user turn, as in Mantis. Raises `DataError` where the two do not fit,
    or a turn has what cannot be read.
    """
    name = next((key for key in _TURNS if isinstance(row.get(key), list) and row[key]), None)
    if name is None:
        raise DataError(f"no list of turns in {', '.join(_TURNS)}")
    if any(row.get(key) for key in _VIDEO):
        raise DataError(_NO_VIDEO)
    unknown = {key for key, value in row.items() if value and key not in (*_TURNS, *_VIDEO, "id", "system")}
    unknown -= {key for keys in _LISTS.values() for key in keys}
    listed = {kind: _listed(row, keys) for kind, keys in _LISTS.items()}
    turns = [Turn("system", list(_split(row["system"])))] if isinstance(row.get("system"), str) and row["system"] else []
    for number, turn in enumerate(row[name]):
        try:
            turns.append(_turn(turn, unknown))
        except DataError as problem:
            raise DataError(f"turn {number}: {problem}") from None
    for kind, media in listed.items():
        _place(turns, kind, media)
    return turns, unknown


def _turn(turn: object, unknown: set[str]) -> Turn:
    if not isinstance(turn, dict):
        raise DataError("no role or no text")
    said = turn.get("from", turn.get("role"))
    role, content = ROLES.get(str(said)), turn.get("value", turn.get("content"))
    if role is None:
        raise DataError(f"no role or no text: the role is {said!r}, expected {', '.join(ROLES)}")
    unknown |= {f"turn: {key}" for key, value in turn.items() if value and key not in ("from", "role", "value", "content")}
    if isinstance(content, str):
        return Turn(role, list(_split(content)))
    if not isinstance(content, list):
        raise DataError("no role or no text")
    pieces: list[str | Medium] = []
    for piece in content:
        pieces += _piece(piece, unknown)
    return Turn(role, pieces)


def _split(text: str) -> Iterator[str | Medium]:
    """Text, and a `Medium` without a reference for each place in it."""
    if "<video>" in text:
        raise DataError(_NO_VIDEO)
    while found := min((at, place) for place in (*PLACES, "") if (at := text.find(place) if place else len(text)) >= 0):
        at, place = found
        if at:
            yield text[:at]
        if not place:
            return
        yield Medium(PLACES[place], None)
        text = text[at + len(place) :]


def _piece(piece: object, unknown: set[str]) -> list[str | Medium]:
    piece = piece if isinstance(piece, dict) else {}
    kind = piece.get("type")
    if kind == "text" and isinstance(piece.get("text"), str):
        unknown |= {f"text piece: {key}" for key, value in piece.items() if value and key not in ("type", "text")}
        return list(_split(piece["text"]))
    if kind not in _PIECES:
        raise DataError(_NO_VIDEO if kind in ("video", "video_url") else f"a piece of the type {kind!r} without text is not read")
    medium, keys = _PIECES[kind]
    unknown |= {f"{kind} piece: {key}" for key, value in piece.items() if value and key not in ("type", *keys)}
    reference = next((piece[key] for key in keys if piece.get(key)), None)
    if isinstance(reference, dict) and "url" in reference:  # {"image_url": {"url", "detail"}}
        unknown |= {f"{kind} piece: {key}" for key, value in reference.items() if value and key != "url"}
        reference = reference["url"]
    elif isinstance(reference, dict) and "data" in reference:  # {"input_audio": {"data", "format"}}: base64, in which is no dot
        data = str(reference["data"])
        reference = (
            data if "." in data[-8:] or data.startswith("data:") else f"data:audio/{reference.get('format')};base64,{data}"
        )
    return [Medium(medium, reference)]


def _listed(row: dict, keys: tuple[str, ...]) -> list:
    value = next((row[key] for key in keys if row.get(key)), [])
    return value if isinstance(value, list) else [value]


def _place(turns: list[Turn], kind: str, media: list) -> None:
    """Put the references of a row's list to their places in the turns."""
    empty = [
        (turn, number)
        for turn in turns
        for number, piece in enumerate(turn.pieces)
        if isinstance(piece, Medium) and piece.kind == kind and piece.reference is None
    ]
    if len(empty) > len(media):
        word, name = ("pictures", "images") if kind == "image" else ("recordings", "audios")
        raise DataError(f"{len(empty)} places for {word} (<{kind}>), but the row names {len(media)} ({name})")
    surplus = len(media) - len(empty)
    for (turn, number), reference in zip(empty, media[surplus:], strict=True):
        turn.pieces[number] = Medium(kind, reference)
    if surplus:
        first = next((turn for turn in turns if turn.role == "user"), None)
        if first is None:
            raise DataError(f"{surplus} of what {kind} names have no place, and there is no turn of a user")
        first.pieces[:0] = [piece for reference in media[:surplus] for piece in (Medium(kind, reference), "\n")]
