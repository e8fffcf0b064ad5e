"""What the server takes on, so that one client cannot take it down."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one request, if not said otherwise."""

    body: int = 32 << 20
    """Bytes of its body."""
    media: int = 64
    """Pictures and sounds together."""
    pixels: int = 16_000_000
    """Pixels of one picture."""
    all_pixels: int = 32_000_000
    """Pixels of all its pictures."""
    sound: float = 120.0
    """Seconds of one sound."""
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
    running: int = 16
    """Of the server: sequences that run at once."""
    waiting: int = 64
    """Of the server: sequences that wait for their turn."""
    sessions: int = 32
    """Of the server: realtime sessions that are open at once."""
    session: float = 3600.0
    """Seconds that a realtime session may last."""
    idle: float = 300.0
    """Seconds in which a realtime session is told nothing before it ends."""
    message: int = 8 << 20
    """Characters of one message in it."""
    items: int = 200
    """Of its conversation: items that are kept."""
    conversation: int = 64 << 20
    """Bytes of media that are kept of it."""
    responses: int = 4
    """Of a realtime session: responses that are written at once."""
