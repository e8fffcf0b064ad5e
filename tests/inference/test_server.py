"""The server: whole and streamed answers, many clients, and whatever may be thrown at it."""

import base64
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import PIL.Image
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.media import encode_png, encode_wav

from .live import serving
from .tiny import write_checkpoint

HOT = {"temperature": 1.3, "max_tokens": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def server(model):
    limits = Limits(body=400_000, pixels=10_000, sound=2.0, prompt_tokens=300, new_tokens=2000, running=4, waiting=8, arrival=1.5)
    with serving(model, limits) as found:
        yield found


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


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_whole_and_in_a_stream(server, model, seed):
    address, _ = server
    whole = post(address, messages=EVERYTHING, seed=seed, **HOT).json()
    message = whole["choices"][0]["message"]
    assert whole["object"] == "chat.completion" and whole["model"] == "tiny" and message["role"] == "assistant"
    assert [part["index"] for part in message["parts"]] == list(range(len(message["parts"])))
    assert message["content"] == " ".join(part["text"] for part in message["parts"] if part["type"] == "text")
    assert whole["usage"]["completion_tokens"] == len(message["ids"])
    model.tokenizer.vocabulary.split(message["ids"])
    assert [i for part in message["parts"] for i in part["ids"]] == message["ids"]
    body = {"messages": EVERYTHING, "seed": seed, "stream": True, **HOT}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = chunks(response)
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert [i for delta in deltas for i in delta.get("ids", [])] == message["ids"]
    assert found[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    for part in message["parts"]:
        own = [delta for delta in deltas if delta.get("part") == part["index"]]
        if part["type"] == "text":
            assert "".join(delta.get("content", "") for delta in own) == part["text"]
        elif part["type"] == "image_url":
            assert own[-1]["image_url"] == part["image_url"]
            assert PIL.Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size == (16, 16)
        else:
            pcm = b"".join(base64.b64decode(delta["audio"]["data"]) for delta in own if "audio" in delta)
            kept, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])), dtype="int16")
            assert rate == 16_000 and np.abs(np.frombuffer(pcm, "<i2").astype(int) - kept).max() <= 2
            assert message["audio"]["format"] == "wav"


def test_an_answer_can_be_sent_back(server):
    address, _ = server
    first = post(address, messages=EVERYTHING, seed=2, **HOT).json()["choices"][0]["message"]
    more = [*EVERYTHING, {"role": "assistant", "content": first["parts"]}, *user({"type": "text", "text": "a"})]
    assert post(address, messages=more, max_tokens=5).status_code == 200


def test_many_clients_get_their_own_answers(server):
    address, service = server
    asked = [{"messages": user({"type": "text", "text": "the red " * (1 + n % 5)}), "seed": n, **HOT} for n in range(24)]
    wanted = [post(address, **body).json()["choices"][0]["message"]["ids"] for body in asked]

    def patient(body: dict) -> list[int]:
        while (response := post(address, **body)).status_code == 429:
            assert response.headers["retry-after"] == "1"
            time.sleep(0.05)
        return response.json()["choices"][0]["message"]["ids"]

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(patient, asked)) == wanted
    assert service.taken == 0


def test_more_than_may_wait_are_turned_away_and_those_who_leave_free_their_place(server):
    address, service = server
    where = urlsplit(address)
    body = json.dumps({"messages": user({"type": "text", "text": "a"}), "stream": True, "temperature": 1.0, "max_tokens": 2000,
                       "modalities": ["audio"], "sampling": {"audio": {"temperature": 1.0}}})  # fmt: skip
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
    clients = []
    for _ in range(12):  # 4 run, 8 wait
        client = socket.create_connection((where.hostname, where.port))
        client.sendall(request.encode())
        client.recv(100)
        clients.append(client)
    assert service.taken == 12
    response = post(address, messages=user({"type": "text", "text": "a"}))
    assert response.status_code == 429 and "try again" in response.json()["error"]["message"]
    for client in clients:  # as a killed process leaves: with a reset
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    deadline = time.monotonic() + 20
    while service.taken and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.taken == 0
    assert post(address, messages=user({"type": "text", "text": "a"}), max_tokens=5).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"[" * 100_000, 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"{}", 400, "messages: Field required"),
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
    assert httpx.get(f"{address}/health", headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == "tiny"
    assert "<title>mmpt</title>" in httpx.get(address).text


def test_a_body_that_does_not_come_and_one_that_never_ends(server):
    address, service = server
    where = urlsplit(address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        client.settimeout(10)
        assert b" 408 " in client.recv(1000)
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


def test_an_answer_that_takes_too_long_is_cut_off(model):
    with serving(model, Limits(request=0.3)) as (address, service):
        asked = {"messages": user({"type": "text", "text": "a"}), "max_tokens": 4000, "modalities": ["audio"], "temperature": 1.0}
        found = post(address, **asked).json()["choices"][0]
        assert found["finish_reason"] == "length" and found["message"]["ids"] and service.taken == 0


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
    "alternate",
    "seed",
    "stream",
    "n",
    "guidance",
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
def test_no_request_makes_the_server_fail(server, body):
    address, service = server
    body = {"messages": user({"type": "text", "text": "a"}), "max_tokens": 3, **body}
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{address}/v1/chat/completions", content=json.dumps(body), headers=headers, timeout=60)
    assert response.status_code < 500, (body, response.text)
