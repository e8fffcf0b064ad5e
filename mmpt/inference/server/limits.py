"""What the server takes on, so that one client cannot take it down."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes of a request's body; of one request the number of pictures and sounds, pixels of a picture and of all, seconds of a
    sound and of all; tokens of a prompt and of an answer; seconds that a body may take to arrive, and a request in all; sequences
    that run at once, and that wait for their turn."""

    body: int = 32 << 20
    media: int = 64
    pixels: int = 16_000_000
    all_pixels: int = 32_000_000
    sound: float = 120.0
    all_sound: float = 240.0
    prompt_tokens: int = 8192
    new_tokens: int = 4096
    arrival: float = 20.0
    request: float = 300.0
    running: int = 16
    waiting: int = 64
