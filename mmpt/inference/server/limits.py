"""What the server takes on, so that one client cannot take it down."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes of a request's body; pixels of a picture; seconds of a sound; tokens of a prompt and of an answer; seconds that
    a body may take to arrive, and a request in all; sequences that run at once, and that wait for their turn."""

    body: int = 32 << 20
    pixels: int = 16_000_000
    sound: float = 120.0
    prompt_tokens: int = 8192
    new_tokens: int = 4096
    arrival: float = 20.0
    request: float = 300.0
    running: int = 16
    waiting: int = 64
