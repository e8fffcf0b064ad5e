"""Requests to a server of a tiny model, and the limits that it has in tests."""

import base64
import io
import json

import httpx
import numpy as np
import PIL.Image

from mmpt.inference.server.limits import Limits
from mmpt.media import encode_png, encode_wav

HOT = {"temperature": 1.3, "max_tokens": 60, "return_token_ids": True}


def limits() -> Limits:
    """Small ones, so that tests reach each."""
    return Limits(
        body=400_000,
        media=6,
        pixels=10_000,
        all_pixels=20_000,
        sound=2.0,
        all_sound=5.0,
        prompt_tokens=300,
        new_tokens=2000,
        running=4,
        waiting=16,
        arrival=1.5,
    )


def data_url(width: int = 20, height: int = 15) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(PIL.Image.new("RGB", (width, height), "red"))).decode()


def wav(seconds: float = 0.3) -> str:
    return base64.b64encode(encode_wav(np.zeros(int(16_000 * seconds), dtype=np.float32), 16_000)).decode()


def user(*content) -> list[dict]:
    return [{"role": "user", "content": list(content)}]


EVERYTHING = user(
    {"type": "text", "text": "the red"},
    {"type": "image_url", "image_url": {"url": data_url()}},
    {"type": "input_audio", "input_audio": {"data": wav(), "format": "wav"}},
)


def post(address: str, **body) -> httpx.Response:
    return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)


def chunks(response) -> list[dict]:
    lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def bilevel(side: int) -> str:
    """A picture of few bytes and many pixels."""
    buffer = io.BytesIO()
    PIL.Image.new("1", (side, side)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def asked(text: str = "a", **fields) -> dict:
    return {"messages": user({"type": "text", "text": text}), **fields}
