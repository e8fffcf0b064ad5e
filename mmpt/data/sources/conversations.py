"""Conversations about pictures in the forms of LLaVA, Mantis and OpenAI-style messages.

sources: [{kind: conversations, rows: llava_instruct.json, images: pictures/}]
"""

from dataclasses import replace
from typing import Literal

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import find_picture
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError

PLACE = "<image>"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class ConversationsConfig(SourceSchema):
    """`rows`: a JSON array or JSON lines. `images`: the folder that the rows' file names are relative to.

    Each turn becomes text in the form of its role, `{text}` standing for what was said. Only what the assistant says is
    learned (the others' parts, their pictures too, have weight 0). `<image>` is where a picture goes; pictures without one go
    to the front of the first user turn, as in Mantis.
    """

    kind: Literal["conversations"] = "conversations"
    rows: str
    images: str
    user: str = "USER: {text}\n"
    assistant: str = "ASSISTANT: {text}\n"
    system: str = "{text}\n"
    language: str = ""
    license: str = ""

    @pydantic.field_validator("user", "assistant", "system")
    @classmethod
    def _has_a_place_for_the_text(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("expected {text} once in it")
        return value


def units(config: ConversationsConfig) -> list[Unit]:
    """Ranges of rows. Raises `ConfigError` where there are none."""
    return row_units(config.rows, MEDIA_BYTES)


def read(config: ConversationsConfig, unit: Unit) -> Documents:
    """One document for each conversation. One of which a picture is missing is listed and left out: its text speaks of it."""
    store, name = Store(config.images), source_name(config, config.rows)
    for one in read_rows(config.rows, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, row = one
        document_id = row_id(name, config.rows, where)
        try:
            turns, references = _turns(row), _references(row)
            pictures = [find_picture(store, reference, "path") for reference in references]
            parts = _parts(config, turns, pictures)
            if not parts:
                raise DataError("nothing in it")
        except DataError as problem:
            yield Lost(where, str(problem), document_id)
            continue
        meta = {"language": config.language, "license": config.license, "conversation": row.get("id")}
        yield Document(document_id, name, tuple(parts), {key: value for key, value in meta.items() if value})


def _turns(row: dict) -> list[tuple[str, str]]:
    """(role, text) of each turn."""
    turns = next((row[key] for key in ("conversations", "conversation", "messages") if isinstance(row.get(key), list)), None)
    if not turns:
        raise DataError("no list of turns in conversations, conversation or messages")
    found = []
    for number, turn in enumerate(turns):
        role = _ROLES.get(str(turn.get("from", turn.get("role")))) if isinstance(turn, dict) else None
        text = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
        if isinstance(text, list):  # OpenAI's lists of {"type": "text" | "image…"}
            text = _joined(text)
        if role is None or not isinstance(text, str):
            raise DataError(f"turn {number}: no role or no text")
        found.append((role, text))
    return found


def _joined(pieces: list) -> str | None:
    """The text of a turn given in pieces; None where one is neither text nor a picture."""
    found = []
    for piece in pieces:
        kind = piece.get("type") if isinstance(piece, dict) else None
        found.append(PLACE if kind in ("image", "image_url") else piece.get("text") if kind == "text" else None)
    return "".join(found) if all(isinstance(text, str) for text in found) else None


def _references(row: dict) -> list[str]:
    images = row.get("images") or row.get("image") or []
    images = images if isinstance(images, list) else [images]
    return [image.get("path", "") if isinstance(image, dict) else image for image in images]


def _parts(config: ConversationsConfig, turns: list[tuple[str, str]], pictures: list) -> list:
    places = sum(text.count(PLACE) for _, text in turns)
    if places > len(pictures):
        raise DataError(f"{places} places for pictures, but {len(pictures)} pictures")
    first = next((number for number, (role, _) in enumerate(turns) if role == "user"), None)
    if places < len(pictures):
        if first is None:
            raise DataError(f"{len(pictures) - places} pictures without a place, and no turn of a user")
        turns[first] = ("user", f"{PLACE}\n" * (len(pictures) - places) + turns[first][1])
    left, parts = iter(pictures), []
    for role, text in turns:
        weight = 1.0 if role == "assistant" else 0.0
        form = {"user": config.user, "assistant": config.assistant, "system": config.system}[role]
        for number, piece in enumerate(form.replace("{text}", text).split(PLACE)):
            if number:
                parts.append(replace(next(left), weight=weight))
            if piece:
                parts.append(Text(piece, weight))
    return parts
