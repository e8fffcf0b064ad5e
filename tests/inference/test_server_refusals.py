"""What the server refuses, cuts off or survives: bad requests, bodies that never end, failures of the engine, any JSON at all."""

import asyncio
import json
import socket
import threading
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.inference.server import answer
from mmpt.inference.server.limits import Limits

from .asking import EVERYTHING, asked, bilevel, data_url, post, user, wav
from .live import serving


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"[" * 100_000, 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"{}", 400, "messages: Field required"),
        (b'{"messages":[' + b"1," * 40_001 + b"1]}", 400, "more than 40000 values"),
        ({"messages": []}, 400, "messages"),
        ({"messages": user({"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}})}, 400, "nothing is fetched"),
        ({"messages": user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})}, 400, "nothing is fetched"),
        ({"messages": user({"type": "image_url", "image_url": {"url": "data:image/png;base64,####"}})}, 400, "base64"),
        (
            {"messages": user({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}})},
            400,
            "expected a data",
        ),
        ({"messages": user({"type": "image_url", "image_url": {"url": data_url(200, 200)}})}, 400, "at most 10000 are decoded"),
        ({"messages": user({"type": "input_audio", "input_audio": {"data": wav(3.0)}})}, 400, "at most 2 s"),
        (
            {"messages": user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})},
            400,
            "content.0: no audio",
        ),
        ({"messages": user({"type": "input_audio", "input_audio": {"data": "", "format": "exe"}})}, 400, "format"),
        ({"messages": user({"type": "text", "text": "a b " * 2000})}, 400, "at most 300 are read"),
        ({"messages": user({"type": "text", "text": "a"}), "max_tokens": 3000}, 400, "at most 2000 are written"),
        ({"messages": user({"type": "text", "text": "a"}), "temperature": -1}, 400, "temperature"),
        ({"messages": user({"type": "text", "text": "a"}), "n": 5}, 400, "n:"),
        ({"messages": user({"type": "text", "text": "a"}), "modalities": ["text"], "alternate": [1, 2]}, 400, "alternate"),
        (b"x" * 500_000, 413, "at most 400000"),
        ({"messages": user(*[{"type": "image_url", "image_url": {"url": bilevel(4)}}] * 7)}, 400, "content.6: more than 6"),
        ({"messages": user(*[{"type": "image_url", "image_url": {"url": bilevel(90)}}] * 3)}, 400, "content.2: more than 20000"),
        ({"messages": user(*[{"type": "input_audio", "input_audio": {"data": wav(1.9)}}] * 3)}, 400, "content.2: more than 5 s"),
        (asked(tools=[{"type": "function", "function": {"name": "f"}}]), 400, "tools: not supported"),
        (asked(tool_choice="required"), 400, "tool_choice: not supported"),
        (asked(response_format={"type": "xml"}), 400, "response_format"),
        (asked(response_format={"type": "json_object"}, modalities=["text", "audio"]), 400, "JSON is text"),
        (asked(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "objec"}}}), 400, "objec"),
        (asked(logit_bias={"99999": 100}), 400, "logit_bias: 99999 is no token"),
        (asked(logit_bias={"5": 101}), 400, "logit_bias"),
        (asked(presence_penalty=3), 400, "presence_penalty"),
        (asked(top_logprobs=3), 400, "top_logprobs goes with"),
        (asked(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
        (asked(reasoning_effort="high"), 400, "reasoning_effort: not supported"),
        (asked(audio={"voice": "default", "format": "midi"}), 400, "audio.format"),
        (asked(audio={"voice": "default", "format": "wav"}, stream=True), 400, "pcm16 in a stream"),
        (asked(audio={"voice": "alloy"}), 400, "audio.voice"),
        (asked(stream_options={"include_usage": True}), 400, "stream_options goes with"),
        (asked(stop=["a"] * 5), 400, "stop"),
        (asked(sampler={"kind": "min_q"}), 400, "sampler: no sampler 'min_q', did you mean min_p?"),
        (asked(sampling={"image": {"kind": "min_p", "min_p": 2}}), 400, "sampling.image.min_p"),
        (asked(sampler="greedy", temperature=1.0), 400, "goes without temperature"),
        (asked(model="gpt-17"), 404, "gpt-17"),
        (
            {"messages": [*user({"type": "text", "text": "a"}), {"role": "assistant", "audio": {"id": "audio-1"}}]},
            400,
            "no such answer is kept",
        ),
    ],
)
def test_bad_requests_are_answered_with_a_reason(server, body, status, said):
    address, service = server
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(f"{address}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status and said in response.json()["error"]["message"]
    assert "Traceback" not in response.text and service.taken == 0


def test_other_paths_types_and_hosts(server):
    address, _ = server
    assert httpx.get(f"{address}/nothing").status_code == 404 and httpx.get(f"{address}/../etc/passwd").status_code == 404
    assert httpx.get(f"{address}/v1/chat/completions").status_code == 405
    assert httpx.post(f"{address}/v1/chat/completions", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.head(f"{address}/health").status_code == 200
    found = [httpx.get(f"{address}/health", headers={"Host": "evil.example"}), httpx.get(f"{address}/nothing")]
    found += [httpx.put(f"{address}/v1/models"), httpx.get(f"{address}/v1/models/other/one"), post(address, **asked(model="x"))]
    assert [one.status_code for one in found] == [400, 404, 405, 404, 404]
    for one in found:
        assert set(one.json()["error"]) == {"message", "type", "param", "code"} and one.json()["error"]["message"]
    assert found[-1].json()["error"]["code"] == found[-2].json()["error"]["code"] == "model_not_found"
    (described,) = httpx.get(f"{address}/v1/models").json()["data"]
    assert described["id"] == "tiny" and 0 <= time.time() - described["created"] < 600
    assert httpx.get(f"{address}/v1/models/tiny").json() == described
    assert "<title>mmpt</title>" in httpx.get(address).text


def test_a_body_that_does_not_come_and_one_that_never_ends(server):
    address, service = server
    where = urlsplit(address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        client.settimeout(10)
        assert b" 408 " in client.recv(1000)
    for more in ("Content-Length: 400001", "Content-Length: 5\r\nContent-Encoding: gzip"):  # told before it comes
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(f"{head}{more}\r\n\r\n".encode())
            client.settimeout(10)
            assert (b" 413 " if "400001" in more else b" 415 ") in client.recv(1000)
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        client.settimeout(10)
        try:
            for _ in range(200):
                client.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
            found = client.recv(1000)
        except OSError:
            found = b" 413 "  # closed under the client's hands
        assert b" 413 " in found
    assert service.taken == 0


def test_a_token_where_one_is_asked_for(model):
    with serving(model, token="secret") as (address, _):
        assert post(address, messages=EVERYTHING).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{address}/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer secreT"}).status_code == 401


@pytest.mark.parametrize("kind", ["audio", "text"])
def test_an_answer_that_takes_too_long_is_cut_off(model, kind, monkeypatch):
    with serving(model, Limits(request=3.0)) as (address, service):
        step = service._engine.step
        monkeypatch.setattr(service._engine, "step", lambda: time.sleep(0.1) or step())
        body = asked(max_tokens=4000, modalities=[kind], temperature=1.0, return_token_ids=True)
        begun, found = time.monotonic(), post(address, **body).json()["choices"][0]
        assert time.monotonic() - begun < 15 and found["finish_reason"] == "length" and found["token_ids"] and service.taken == 0


def test_a_failure_of_the_engine_is_a_500_and_the_next_request_is_served(model, monkeypatch):
    with serving(model) as (address, service):
        step, broken = service._engine.step, threading.Event()

        def failing():
            if broken.is_set():
                broken.clear()
                raise RuntimeError("out of memory, with a secret path")
            return step()

        monkeypatch.setattr(service._engine, "step", failing)
        broken.set()
        response = post(address, messages=EVERYTHING)
        assert response.status_code == 500 and "secret" not in response.text
        assert post(address, messages=EVERYTHING, max_tokens=5).status_code == 200 and service.taken == 0


def test_a_stream_that_is_read_too_slowly_ends_and_frees_its_room(monkeypatch):
    monkeypatch.setattr(answer, "GRACE", 0.1)
    left = []

    async def lines():
        while True:
            yield "data: a\n\n"

    async def send(message) -> None:
        await asyncio.sleep(0.05)

    async def scene() -> None:
        stack = AsyncExitStack()
        stack.callback(left.append, 1)
        stream = answer.Stream(lines(), stack, time.monotonic() + 0.1)
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        await asyncio.wait_for(stream(scope, None, send), 20)

    begun = time.monotonic()
    asyncio.run(scene())
    assert left == [1] and time.monotonic() - begun < 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "messages",
    "modalities",
    "max_tokens",
    "temperature",
    "top_p",
    "sampling",
    "sampler",
    "alternate",
    "seed",
    "stream",
    "n",
    "guidance",
    "stop",
    "model",
    "audio",
    "response_format",
    "stream_options",
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
def test_no_request_makes_the_server_fail(server, body):
    address, service = server
    body = {"messages": user({"type": "text", "text": "a"}), "max_tokens": 3, **body}
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{address}/v1/chat/completions", content=json.dumps(body), headers=headers, timeout=60)
    assert response.status_code < 500, (body, response.text)
