"""The lines of a batch file, as OpenAI has them: {"custom_id", "method": "POST", "url", "body"}; a body is what the server takes.

A picture or a sound in a body may be a file beside the batch file: `file:NAME` in place of the data URL, or of the base64.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpt.errors import ConfigError, DataError

URLS = ("/v1/chat/completions",)
"""What may be asked for."""
LINE = 64 << 20
"""Bytes of a line at most."""
FILE = "file:"
_TYPES = {"jpg": "jpeg"}


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(Its number, from 1; the line) of each that is not blank, a longer one cut off at `LINE` bytes."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(LINE + 1):
            number += 1
            whole = line.endswith(b"\n")
            while not whole and (rest := file.readline(LINE)):  # of a longer line nothing is kept
                whole = rest.endswith(b"\n")
            if line.strip():
                yield number, line


def count_lines(path: Path) -> int:
    """Lines that are not blank. Raises `ConfigError` where the file cannot be read."""
    try:
        return sum(1 for _ in lines(path))
    except OSError as problem:
        raise ConfigError(f"--batch {path}: cannot be read ({problem.strerror})") from None


def custom_id(line: bytes) -> str | None:
    """What the line calls itself, where that can be read."""
    try:
        found = json.loads(line)["custom_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def parse(line: bytes, folder: Path, most: int) -> tuple[str, dict]:
    """(The path that is asked, the body) of a line, its files read from `folder`, none larger than `most` bytes. Raises
    `DataError` where it is no request."""
    if len(line) > LINE:
        raise DataError(f"a line of more than {LINE} bytes")
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"not valid JSON ({problem})") from None
    if not isinstance(content, dict):
        raise DataError("expected an object with custom_id, method, url and body")
    if unknown := set(content) - {"custom_id", "method", "url", "body"}:
        raise DataError(f"{', '.join(sorted(unknown))}: not known; expected custom_id, method, url and body")
    if not isinstance(content.get("custom_id"), str):
        raise DataError("custom_id: expected a text")
    if content.get("method", "POST") != "POST":
        raise DataError("method: expected POST")
    if content.get("url") not in URLS:
        raise DataError(f"url: expected {' or '.join(URLS)}")
    body = content.get("body")
    if not isinstance(body, dict):
        raise DataError("body: expected an object")
    if body.get("stream"):
        raise DataError("body.stream: answers in a file come whole")
    _read_files(body.get("messages"), folder, most)
    return content["url"], body


def _read_files(messages: Any, folder: Path, most: int) -> None:
    """Put files in the place of their names. What is no message is left as it is: the server says what is wrong with it."""
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        for key in ("content", "parts"):
            parts = message.get(key) if isinstance(message, dict) else None
            for place, part in enumerate(parts if isinstance(parts, list) else []):
                try:
                    _read_file(part, folder, most)
                except DataError as problem:
                    raise DataError(f"messages.{number}.{key}.{place}: {problem}") from None


def _read_file(part: Any, folder: Path, most: int) -> None:
    inner = {key: part.get(key) for key in ("image_url", "input_audio")} if isinstance(part, dict) else {}
    for (key, place), name in zip(inner.items(), ("url", "data"), strict=False):
        given = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(given, str) and given.startswith(FILE):
            path = _inside(folder, given.removeprefix(FILE))
            if path.stat().st_size > most:
                raise DataError(f"{given}: {path.stat().st_size} bytes, at most {most} are read")
            data, suffix = base64.b64encode(path.read_bytes()).decode(), path.suffix[1:].lower()
            place[name] = data if key == "input_audio" else f"data:image/{_TYPES.get(suffix, suffix)};base64,{data}"
            if key == "input_audio":
                place.setdefault("format", suffix)


def _inside(folder: Path, name: str) -> Path:
    """A file in `folder` or a folder in it. Raises `DataError` where it is none, or lies elsewhere, by a link as well."""
    try:
        root = folder.resolve()
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise DataError(f"{FILE}{name}: no such file in the folder of the batch file")
