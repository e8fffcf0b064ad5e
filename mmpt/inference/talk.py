"""A conversation that goes on turn by turn. Earlier answers stand in the prompt as those do that a client sends back to a server:
with a chat template, one with pictures or speech by the ids that it was written in."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mmpt.chat import Said
from mmpt.config import parse_config
from mmpt.document import Image, Part, Role, Text
from mmpt.errors import ConfigError
from mmpt.inference.document_page import keep
from mmpt.inference.engine import Engine
from mmpt.inference.events import Event, PartDone, TextDelta
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings
from mmpt.modality import MODALITIES
from mmpt.storage import write_bytes

SAMPLING = ("temperature", "top_p", "top_k")
"""What may be set for all modalities together, as `sampler` may."""
KEPT_TOKENS = 8192
"""Of the conversation, whose keys and values are kept from turn to turn."""


class _Turn(NamedTuple):
    """What was said, and of what the model said its ids."""

    role: Role
    parts: list[Part]
    ids: list[int]


@dataclass
class Talk:
    """A conversation with `model`, each turn of which reads what is new in it alone. `given`: what is set, fields of `Settings`,
    `SAMPLING`, or `sampler`."""

    model: MultimodalModel
    given: dict[str, Any] = field(default_factory=dict)
    turns: list[_Turn] = field(default_factory=list)
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = self.model.engine(kept_tokens=KEPT_TOKENS)

    def system(self, text: str) -> None:
        """What the system says before all."""
        self.turns.insert(0, _Turn("system", [Text(text)], []))

    def set(self, name: str, value: object) -> None:
        """Set something; None: as it was. Raises `ConfigError`."""
        given = {key: one for key, one in {**self.given, name: value}.items() if one is not None}
        _settings(given)
        self.given = given

    def prompt(self) -> list[Said]:
        """All that has been said."""
        found: list[Said] = []
        chat = self.model.tokenizer.chat
        for number, turn in enumerate(self.turns):
            if chat is not None and turn.ids and any(not isinstance(part, Text) for part in turn.parts):
                found.append(chat.coded(turn.ids, number))
            else:
                found += [replace(part, role=turn.role, turn=number) for part in turn.parts]
        return found

    def ask(self, parts: Sequence[Part]) -> Generator[Event]:
        """Say something, and have the answer as it comes. Whoever stops reading stops it: what was whole by then, and the text
        that was there, is what was answered. Where that is nothing, the question is taken back. Raises `DataError`."""
        self.turns.append(_Turn("user", [*parts], []))
        events: list[Event] = []
        try:
            for event in self.model.stream(self.prompt(), settings=_settings(self.given), engine=self.engine):
                events.append(event)
                yield event
        finally:
            answer = _answer(events)
            if answer.parts:
                self.turns.append(answer)
            else:
                self.turns.pop()

    def undo(self) -> bool:
        """Take back the last question and its answer; False where there is none."""
        if not any(turn.role == "assistant" for turn in self.turns):
            return False
        del self.turns[-2:]
        return True

    def clear(self) -> None:
        """Forget all but what the system says."""
        self.turns = [turn for turn in self.turns if turn.role == "system"]

    def save(self, path: Path) -> list[Path]:
        """Write it as `--messages` reads it, its media beside it; returns the files. Raises `ConfigError` where it cannot be."""
        if path.exists():
            raise ConfigError(f"{path}: there is a file already, which is not overwritten")
        files: list[Path] = []

        def saved(part: Part) -> dict:
            if isinstance(part, Text):
                return {"type": "text", "text": part.text}
            files.append(keep(path.parent, part.suffix, part.data, path.stem))
            kind = "image" if isinstance(part, Image) else "audio"
            return {"type": kind, kind: files[-1].name}

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            messages = [{"role": turn.role, "content": [saved(part) for part in turn.parts]} for turn in self.turns]
            write_bytes(path, (json.dumps(messages, indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as problem:
            raise ConfigError(f"{path}: cannot be written ({problem.strerror})") from None
        return [path, *files]


def _settings(given: dict[str, Any]) -> Settings:
    """`given` as the engine takes it. Raises `ConfigError`."""
    own = {key: value for key, value in given.items() if key not in (*SAMPLING, "sampler")}
    common: Any = {key: given[key] for key in SAMPLING if key in given}
    if "sampler" in given:
        if common:
            raise ConfigError(f"sampler: it goes without {', '.join(common)}, which are settings of its own")
        common = given["sampler"]
    return parse_config({**(dict.fromkeys(MODALITIES, common) if common else {}), **own}, Settings, "settings")


def _answer(events: Sequence[Event]) -> _Turn:
    """The parts that came to their end, and of a text that was broken off what was there."""
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            texts[event.part] = texts.get(event.part, "") + event.text
    parts: dict[int, Part] = {event.part: event.content for event in events if isinstance(event, PartDone)}
    parts = {**{number: Text(text) for number, text in texts.items()}, **parts}
    ids = [token for event in events if event.part in parts for token in event.ids]
    return _Turn("assistant", [parts[number] for number in sorted(parts)], ids)
