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
    kv_tokens: int | None = None
    """Of the server: tokens whose keys and values are kept, see `mmpt.inference.engine.Engine`."""
