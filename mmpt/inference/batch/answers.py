"""The answers of a batch: lines of OpenAI's form in answers.jsonl, what they show and say as files beside it.

A line is either there whole or not at all, whenever the process dies: it is appended at once and flushed to disk, after its
files, and what a broken line has left at the end is taken away when the file is opened again.
"""

import base64
import fcntl
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpt.errors import ConfigError
from mmpt.inference.batch.requests import FILE
from mmpt.storage import read_json, room_for, write_bytes, write_json

ANSWERS, STATE, MEDIA = "answers.jsonl", "batch.json", "media"
_ID = "batch_req_"


class Answers:
    """Those in a folder; `done` are the numbers of the lines that have one."""

    def __init__(self, folder: Path, file: io.BufferedRandom, inline: bool) -> None:
        self._folder, self._file, self._inline = folder, file, inline
        self.done = set(_mended(file))

    def add(self, number: int, custom_id: str | None, status: int, body: dict) -> None:
        """What the server has answered to line `number`."""
        if not self._inline:
            body = self._filed(number, body)
        self._append(number, custom_id, {"status_code": status, "request_id": f"{_ID}{number}", "body": body}, None)

    def refuse(self, number: int, custom_id: str | None, reason: str) -> None:
        """Line `number` is no request."""
        self._append(number, custom_id, None, {"code": "invalid_request", "message": f"line {number}: {reason}"})

    def _append(self, number: int, custom_id: str | None, response: dict | None, error: dict | None) -> None:
        line = {"id": f"{_ID}{number}", "custom_id": custom_id, "response": response, "error": error}
        with room_for(self._folder / ANSWERS):
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.done.add(number)

    def _filed(self, number: int, body: dict) -> dict:
        """`body` with the names of files in the place of their content."""
        for order, choice in enumerate(body.get("choices", [])):
            message = choice.get("message") or {}
            stem = f"{number:06d}" + (f"-{order}" if order else "")
            for part in message.get("parts") or []:
                name = f"{stem}-{part.get('index', 0)}"
                if "image_url" in part:
                    kind, _, data = part["image_url"]["url"].partition(";base64,")
                    part["image_url"]["url"] = self._keep(f"{name}.{kind.rpartition('/')[2]}", data)
                elif "input_audio" in part:
                    sound = part["input_audio"]
                    sound["data"] = self._keep(f"{name}.{sound['format']}", sound["data"])
            sounds = [part["input_audio"]["data"] for part in message.get("parts") or [] if "input_audio" in part]
            whole = message.get("audio")
            if whole and "data" in whole:  # of one utterance it is the same sound again
                suffix = whole.get("format", "wav")
                same = len(sounds) == 1 and sounds[0].endswith(f".{suffix}")
                whole["data"] = sounds[0] if same else self._keep(f"{stem}-all.{suffix}", whole["data"])
        return body

    def _keep(self, name: str, data: str) -> str:
        write_bytes(self._folder / MEDIA / name, base64.b64decode(data))
        return f"{FILE}{MEDIA}/{name}"


@contextmanager
def answers(folder: Path, identity: dict[str, Any], inline: bool) -> Iterator[Answers]:
    """Those in `folder`, begun or gone on with. `identity`: what all answers in there depend on. Raises `ConfigError` where it
    holds the answers of something else, or another process writes them."""
    (folder / MEDIA).mkdir(parents=True, exist_ok=True)
    with open(folder / ANSWERS, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it whatever ends the process
        except OSError:
            raise ConfigError(f"--out {folder}: another process writes the answers there") from None
        if (folder / STATE).is_file():
            before = read_json(folder / STATE, ConfigError)
            if changed := [name for name in identity if before.get(name) != identity[name]]:
                said = "; ".join(f"{name} was {before.get(name)!r}, is {identity[name]!r}" for name in changed)
                raise ConfigError(f"--out {folder}: it has the answers of another batch ({said}); take a new folder")
        elif file.seek(0, os.SEEK_END):
            raise ConfigError(f"--out {folder}: {ANSWERS} is there, but no {STATE}; take a new folder")
        else:
            write_json(folder / STATE, identity)
        yield Answers(folder, file, inline)


def _mended(file: io.BufferedRandom) -> Iterator[int]:
    """The numbers of the lines that are answered. Behind the last whole line the file is cut off."""
    file.seek(0)
    end = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        end += len(line)
        yield int(json.loads(line)["id"].removeprefix(_ID))
    file.truncate(end)
    file.seek(0, os.SEEK_END)
