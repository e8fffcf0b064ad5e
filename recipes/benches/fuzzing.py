"""The server under rubbish: random bytes, random JSON, forms and good requests with something wrong in them, over all routes.

    OMP_NUM_THREADS=1 python recipes/benches/fuzzing.py [RUN]

RUN: a finished quickstart's finetuning (default runs/quickstart). Writes recipes/results/fuzzing.json.
"""

import base64
import http.client
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import PIL.Image
import serving

from mmpt.media import encode_png, encode_wav
from mmpt.results import Figure, report

ROOT = Path(__file__).resolve().parents[2]
REQUESTS, CLIENTS = 5000, 4
JUNK = (
    *(None, -1, 0, 1, 1e308, float("inf"), 10**30, True, "", "\u0000", "é\ud83d", "x" * 1000, [], {}, [[]], [1, 2, 3]),
    *({"type": "text"}, {"url": 3}, ["audio"], "text", {"kind": "min_p"}, {"a": None}),
)
CHAT, SPEECH, PICTURES = "/v1/chat/completions", "/v1/audio/speech", "/v1/images/generations"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
FIELDS = {
    CHAT: (
        *("messages", "modalities", "model", "seed", "temperature", "top_p", "top_k", "sampler", "sampling", "alternate"),
        *("guidance", "stream", "stream_options", "n", "logprobs", "top_logprobs", "response_format", "logit_bias"),
        *("frequency_penalty", "presence_penalty", "stop", "audio", "return_token_ids", "tools", "tool_choice", "user"),
        *("store", "service_tier", "max_completion_tokens", "reasoning_effort"),
    ),
    SPEECH: (
        *("input", "voice", "response_format", "speed", "stream_format", "instructions", "model", "temperature", "top_p"),
        *("top_k", "seed"),
    ),
    PICTURES: (
        *("prompt", "n", "size", "response_format", "output_format", "output_compression", "background", "quality"),
        *("style", "stream", "partial_images", "temperature", "guidance", "seed", "model", "user"),
    ),
    TRANSCRIPTIONS: (
        *("response_format", "language", "prompt", "temperature", "timestamp_granularities[]", "include[]"),
        *("chunking_strategy", "stream", "model", "seed", "keywords[]"),
    ),
}


def schema(content: dict) -> dict:
    """A `response_format`."""
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": content}}


GOOD_VALUES = {
    "response_format": (
        *("mp3", "wav", "flac", "opus", "aac", "pcm", "b64_json", "json", "text", "srt", "vtt", "verbose_json"),
        *({"type": "json_object"}, schema({"type": "integer"}), schema({"$ref": "#/x"})),
        schema({"type": "string", "pattern": "(" * 40}),
    ),
    "stream": (True, "true"),
    "stream_format": ("sse", "audio"),
    "n": (2, 3),
    "logprobs": (True,),
    "top_logprobs": (3,),
    "logit_bias": ({"5": 3}, {"-1": 3}, {"a": 1}),
    "size": ("64x64", "1x1", "9999x9999", "64x32"),
    "output_format": ("jpeg", "webp"),
    "audio": ({"voice": "default", "format": "mp3"}, {"voice": "default", "format": "pcm16"}),
    "stop": ("a", ["a", "b"]),
    "frequency_penalty": (1.5,),
    "presence_penalty": (-2,),
    "include[]": ("logprobs",),
    "temperature": (0.9, 100),
    "alternate": ([2, 3],),
    "return_token_ids": (True,),
    "stream_options": ({"include_usage": True},),
    "modalities": (["text"], ["audio"], ["image"]),
}
PATHS = (
    "/",
    "/health",
    "/metrics",
    "/v1/models",
    "/v1/models/x",
    "/v1/models/%2e%2e",
    "/v1/nothing",
    "/v1/audio",
    "/favicon.ico",
    "//",
)


def main() -> None:
    run = sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"
    port = random.randrange(20_000, 32_000)
    command = [sys.executable, "-m", "mmpt.cli", "serve", run, "--port", str(port), "--grace", "5"]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        address = f"http://127.0.0.1:{port}"
        serving.wait(address, server)
        statuses, broken = flood(address)
        left = settled(address)
    finally:
        server.terminate()
        code = server.wait(60)
    print("statuses:", dict(sorted(statuses.items())))
    failed = sum(count for status, count in statuses.items() if status >= 500)
    figures = [
        Figure(f"of {REQUESTS} fuzzed requests over all routes, answered with 5xx", failed, 0, at_most=True),
        Figure("answered with 200", statuses[200] / REQUESTS),
        Figure("answered with 4xx", sum(n for s, n in statuses.items() if 400 <= s < 500) / REQUESTS),
        Figure("streams among them that end with an error", broken, 0, at_most=True),
        Figure("requests still held at the end", left, 0, at_most=True),
        Figure("exit code of the server behind them", code, 0, at_most=True),
    ]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "fuzzing.json", ["fastapi", "uvicorn", "llguidance"]) else 1)


def flood(address: str) -> tuple[Counter[int], int]:
    """(how often which status was answered, streams that end with an error) of all requests, four at a time."""
    statuses: Counter[int] = Counter()
    broken, lock = [0], threading.Lock()

    def client(place: int) -> None:
        for number in range(place, REQUESTS, CLIENTS):
            method, path, body, kind = fuzzed(random.Random(number), number)
            status, answer = send(address, method, path, body, kind)
            with lock:
                statuses[status] += 1
                broken[0] += status == 200 and b'"server_error"' in answer
            if status >= 500 or (status == 200 and b'"server_error"' in answer):
                print(status, method, path, body[:300], answer[:300])

    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, broken[0]


def settled(address: str) -> int:
    """Requests that are held once nobody asks any more."""
    deadline = time.monotonic() + 30
    while (left := serving.get(address, "/health")["requests"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def fuzzed(draw: random.Random, number: int) -> tuple[str, str, bytes, str]:
    """(method, path, body, content type) of a request."""
    if number % 10 == 0:
        return draw.choice(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]), draw.choice([*PATHS, *FIELDS]), b"", ""
    path = draw.choice(list(FIELDS))
    if number % 10 == 1:
        kind = draw.choice(
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "", "\u00ff"]
        )
        return "POST", path, draw.randbytes(draw.randrange(300)), kind
    if path == TRANSCRIPTIONS:
        return "POST", path, *form(draw)
    body = good(draw, path, number)
    for _ in range(draw.choice([0, 0, 1, 1, 2, 3])):
        name = draw.choice([*FIELDS[path], *body, "".join(draw.choices("abc_\u0000é", k=4))])
        body[name] = value(draw, name)
    raw = bytearray(json.dumps(body).encode())
    if number % 10 == 2:  # bytes of it changed
        for _ in range(draw.randrange(1, 6)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
    if number % 10 == 3:
        raw = raw[: draw.randrange(len(raw))]
    return "POST", path, bytes(raw), "application/json"


def value(draw: random.Random, name: str) -> object:
    """What a field may be given: half of the time something that it takes."""
    return draw.choice(GOOD_VALUES[name]) if name in GOOD_VALUES and draw.random() < 0.6 else draw.choice(JUNK)


def good(draw: random.Random, path: str, number: int) -> dict:
    if path == SPEECH:
        return {"input": draw.choice(["a red circle", "über 日本", "\u200b", "<|speech|>"]), "voice": "default"}
    if path == PICTURES:
        return {"prompt": "a red circle"}
    body = {**serving.question(number), "max_tokens": draw.choice([1, 2, 4, 12])}
    content = body["messages"][0]["content"]
    if draw.random() < 0.3:
        url = "data:image/png;base64," + draw.choice([picture(draw), "", "AAAA", "iVBORw0KGgo=", "é", "=" * 9])
        content.append({"type": "image_url", "image_url": {"url": url}})
    if draw.random() < 0.3:
        data = draw.choice([base64.b64encode(sound(draw)).decode(), "", "UklGRg==", draw.choice(JUNK)])
        content.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    if draw.random() < 0.2:
        said = {"role": draw.choice(["assistant", "tool", "user", "system", "developer"])}
        said |= draw.choice(
            [{"content": "a"}, {"audio": {"id": "audio-x"}}, {"id": "msg-x"}, {"content": [{"type": "text", "text": "a"}]}]
        )
        body["messages"].insert(draw.randrange(2), said | ({"content": "b"} if draw.random() < 0.3 else {}))
    return body


def form(draw: random.Random) -> tuple[bytes, str]:
    """A form with a recording, or what looks like one."""
    data = draw.choice(
        [sound(draw), sound(draw), broken(draw, sound(draw)), b"", draw.randbytes(100), encode_png(PIL.Image.new("L", (4, 4)))]
    )
    fields = [(name, str(value(draw, name))) for name in draw.choices(FIELDS[TRANSCRIPTIONS], k=draw.randrange(3))]
    out = io.BytesIO()
    for name, said in fields:
        out.write(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{said}\r\n'.encode(errors="replace"))
    name = draw.choice(["file"] * 8 + ["sound"])
    out.write(f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.wav"\r\n\r\n'.encode())
    out.write(data + b"\r\n--x--\r\n")
    return broken(draw, out.getvalue()) if draw.random() < 0.2 else out.getvalue(), "multipart/form-data; boundary=x"


def broken(draw: random.Random, data: bytes) -> bytes:
    """Some bytes changed, perhaps the end missing."""
    raw = bytearray(data)
    for _ in range(draw.randrange(1, 9)):
        raw[draw.randrange(min(len(raw), 200))] = draw.randrange(256)
    return bytes(raw[: draw.randrange(1, len(raw))] if draw.random() < 0.3 else raw)


def sound(draw: random.Random) -> bytes:
    """Up to a second of noise."""
    samples = np.random.default_rng(draw.randrange(1000)).normal(0, 0.1, draw.randrange(1, 16_000)).astype(np.float32)
    return encode_wav(samples, draw.choice([8_000, 16_000, 44_100]))


def picture(draw: random.Random) -> str:
    size = draw.randrange(1, 40), draw.randrange(1, 40)
    return base64.b64encode(encode_png(PIL.Image.new(draw.choice(["RGB", "L"]), size))).decode()


def send(address: str, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
    """(status, body) of an answer."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


if __name__ == "__main__":
    main()
