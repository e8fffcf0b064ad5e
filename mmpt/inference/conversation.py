"""A conversation in a file, as a prompt."""

import json
from pathlib import Path

from mmpt.data.sources.conversations import conversation_parts
from mmpt.data.store import Store
from mmpt.document import Part
from mmpt.errors import ConfigError, DataError


def read_messages(path: Path) -> list[Part]:
    """The parts of the conversation in a JSON file, a list of messages or a row as the source `conversations` reads them, media
    relative to its folder. Raises `ConfigError` where it cannot be read, or leaves nothing to answer."""
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror})") from None
    except ValueError as problem:
        raise ConfigError(f"{path}: not valid JSON ({problem})") from None
    row = {"messages": content} if isinstance(content, list) else content
    if not isinstance(row, dict):
        raise ConfigError(f"{path}: expected a list of messages")
    store = Store(Path(path).parent)
    try:
        parts, unknown = conversation_parts(row, {"image": store, "audio": store})
    except DataError as problem:
        raise ConfigError(f"{path}: {problem}") from None
    if unknown:
        raise ConfigError(f"{path}: not understood: {', '.join(sorted(unknown))}")
    if parts[-1].role == "assistant":
        raise ConfigError(f"{path}: the last message is the assistant's, so there is nothing to answer")
    return parts
