"""What the server takes on, so that one client cannot take it down."""

from dataclasses import dataclass
from typing import Any

from mmpt.errors import DataError


@dataclass(frozen=True)
class Limits:
    """Of one request, if not said otherwise."""

    body: int = 32 << 20
    """Bytes of its body."""
    values: int = 40_000
    """Values in its JSON."""
    text: int = 262_144
    """Characters of all its texts."""
    media: int = 64
    """Pictures and sounds together."""
    pixels: int = 16_000_000
    """Pixels of one picture."""
    all_pixels: int = 32_000_000
    """Pixels of all its pictures."""
    sound: float = 120.0
    """Seconds of one sound."""
    recording: float = 1500.0
    """Seconds of a recording that is to be written down."""
    all_sound: float = 240.0
    """Seconds of all its sounds."""
    prompt_tokens: int = 8192
    """Tokens of its prompt."""
    new_tokens: int = 4096
    """Tokens of its answer."""
    arrival: float = 20.0
    """Seconds that its body may take to arrive."""
    request: float = 300.0
    """Seconds that it may take in all."""
    head: float = 20.0
    """Seconds until a connection has the head of its first request, or of the next."""
    stalled: float = 20.0
    """Seconds in which a client reads something of its answer, where it is behind."""
    running: int = 16
    """Of the server: sequences that run at once, shared among those who ask."""
    spare: int = 4
    """Of the server: sequences more, of clients of whom none runs."""
    waiting: int = 128
    """Of the server: sequences that wait for their turn; each client as many as are left free."""
    bodies: int = 256 << 20
    """Of the server: bytes of all bodies, and of what realtime sessions hold; each client as many as are left free."""
    connections: int = 2048
    """Of the server: connections; each client as many as are left free."""
    sessions: int = 32
    """Of the server: realtime sessions that are open at once; each client as many as are left free."""
    session: float = 3600.0
    """Seconds that a realtime session may last."""
    idle: float = 300.0
    """Seconds in which a realtime session is told nothing before it ends."""
    message: int = 8 << 20
    """Bytes of one message in it; `values`, `text`, `media`, `all_pixels` and `all_sound` hold for a message as for a body."""
    items: int = 200
    """Of its conversation: items that are kept, with `text` characters in all."""
    conversation: int = 64 << 20
    """Bytes of media that are kept of it."""
    responses: int = 4
    """Of a realtime session: responses that are written at once."""
    kv_tokens: int | None = None
    """Of the server: tokens whose keys and values are kept, see `mmpt.inference.engine.Engine`."""
    read_tokens: int = 256
    """Of the server: tokens of prompts that are read between two tokens of those who are being answered."""
    kept_tokens: int = 8192
    """Of the server: tokens of answered requests whose keys and values are kept for the next of the same client."""

    @property
    def engine(self) -> dict[str, Any]:
        """What they mean to an `Engine`."""
        names = ("kv_tokens", "read_tokens", "kept_tokens")
        return {"max_rows": self.running + self.spare, **{name: getattr(self, name) for name in names}}


class Budget:
    """What one request brings, part by part. Raises `DataError` once that is more than `limits` allow."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._text, self._media, self._pixels, self._seconds = limits, 0, 0, 0, 0.0

    def text(self, characters: int) -> None:
        """So many characters of text."""
        self._text += characters
        if self._text > self._limits.text:
            raise DataError(f"more than {self._limits.text} characters in the texts of one request")

    def medium(self) -> None:
        """A picture or a sound, before it is looked at."""
        self._media += 1
        if self._media > self._limits.media:
            raise DataError(f"more than {self._limits.media} pictures and sounds in one request")

    def pixels(self, count: int) -> None:
        """Of a picture."""
        self._pixels += count
        if self._pixels > self._limits.all_pixels:
            raise DataError(f"more than {self._limits.all_pixels} pixels in the pictures of one request")

    def seconds(self, duration: float) -> None:
        """Of a sound."""
        self._seconds += duration
        if self._seconds > self._limits.all_sound:
            raise DataError(f"more than {self._limits.all_sound:g} s in the sounds of one request")
