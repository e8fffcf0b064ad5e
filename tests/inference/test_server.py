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

from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.media import decode_image, encode_png, encode_wav

from .live import serving
from .tiny import write_checkpoint

HOT = {"temperature": 1.3, "max_tokens": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def server(model):
    limits = Limits(
        body=400_000,
        media=6,
        pixels=10_000,
        all_pixels=20_000,
        sound=2.0,
        all_sound=5.0,
        prompt_tokens=300,
        new_tokens=2000,
        running=4,
        waiting=8,
        arrival=1.5,
    )
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


def bilevel(side: int) -> str:
    """A picture of few bytes and many pixels."""
    buffer = io.BytesIO()
    PIL.Image.new("1", (side, side)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def asked(text: str = "a", **fields) -> dict:
    return {"messages": user({"type": "text", "text": text}), **fields}


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


@pytest.mark.slow
def test_many_clients_get_their_own_answers(server):
    address, service = server
    bodies = [asked("the red " * (1 + n % 5), seed=n, **HOT) for n in range(16)]
    wanted = [post(address, **body).json()["choices"][0]["message"]["ids"] for body in bodies]

    def patient(body: dict) -> list[int]:
        while (response := post(address, **body)).status_code == 429:
            assert response.headers["retry-after"] == "1"
            time.sleep(0.05)
        return response.json()["choices"][0]["message"]["ids"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(patient, bodies)) == wanted
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
        ({"messages": user(*[{"type": "image_url", "image_url": {"url": bilevel(4)}}] * 7)}, 400, "content.6: more than 6"),
        ({"messages": user(*[{"type": "image_url", "image_url": {"url": bilevel(90)}}] * 3)}, 400, "content.2: more than 20000"),
        ({"messages": user(*[{"type": "input_audio", "input_audio": {"data": wav(1.9)}}] * 3)}, 400, "content.2: more than 5 s"),
        (asked(tools=[{"type": "function", "function": {"name": "f"}}]), 400, "tools: not supported"),
        (asked(tool_choice="required"), 400, "tool_choice: not supported"),
        (asked(response_format={"type": "json_object"}), 400, "response_format.type: not supported"),
        (asked(logit_bias={"5": 100}), 400, "logit_bias: not supported"),
        (asked(presence_penalty=2), 400, "presence_penalty: not supported"),
        (asked(frequency_penalty=-1), 400, "frequency_penalty: not supported"),
        (asked(logprobs=True, top_logprobs=3), 400, "logprobs: not supported"),
        (asked(reasoning_effort="high"), 400, "reasoning_effort: not supported"),
        (asked(audio={"voice": "default", "format": "mp3"}), 400, "audio.format"),
        (asked(audio={"voice": "default", "format": "wav"}, stream=True), 400, "pcm16 in a stream"),
        (asked(audio={"voice": "alloy"}), 400, "audio.voice"),
        (asked(stream_options={"include_usage": True}), 400, "stream_options goes with"),
        (asked(stop=["a"] * 5), 400, "stop"),
        (asked(sampler={"kind": "min_q"}), 400, "sampler: no sampler 'min_q', did you mean min_p?"),
        (asked(sampling={"image": {"kind": "min_p", "min_p": 2}}), 400, "sampling.image.min_p"),
        (asked(sampler="greedy", temperature=1.0), 400, "goes without temperature"),
        (asked(model="gpt-17"), 404, "gpt-17"),
        ({"messages": [*user({"type": "text", "text": "a"}), {"role": "assistant", "audio": {"id": "audio-1"}}]}, 400, "audio:"),
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
        body = asked(max_tokens=4000, modalities=["audio"], temperature=1.0)
        found = post(address, **body).json()["choices"][0]
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


def test_a_sampler_of_any_kind_is_asked_for(server, model):
    sampler = {"kind": "min_p", "min_p": 0.2, "temperature": 1.5}
    body = asked("the red", modalities=["text"], max_tokens=20, sampler=sampler, seed=5)
    (wanted,) = model.answer([(Text("the red"),)], outputs=["text"], max_new_tokens=21, text=sampler, seed=5)
    assert post(server[0], **body).json()["choices"][0]["message"]["ids"] == wanted.ids
    plain = asked("the red", modalities=["text"], max_tokens=20, temperature=1.5, seed=5)
    assert post(server[0], **plain).json()["choices"][0]["message"]["ids"] != wanted.ids


def test_what_is_null_is_absent_and_an_answer_of_one_token_has_one(server):
    address, _ = server
    names = ("temperature", "top_p", "seed", "n", "stream", "stop", "max_tokens", "tools", "logprobs", "audio", "stream_options")
    plain = post(address, **asked(max_completion_tokens=5)).json()
    assert post(address, **asked(max_completion_tokens=5, **dict.fromkeys(names))).json()["choices"] == plain["choices"]
    one = post(address, **asked(max_tokens=1, modalities=["text"])).json()
    assert one["usage"]["completion_tokens"] == 1 and one["choices"][0]["finish_reason"] == "length"
    assert len(one["choices"][0]["message"]["ids"]) == 1


def test_a_text_ends_before_a_stop_word_whole_and_in_a_stream(server):
    address, service = server
    body = asked("the red", modalities=["text"], max_tokens=60, temperature=1.3, seed=3)
    text = post(address, **body).json()["choices"][0]["message"]["content"]
    word = text[len(text) // 2 : len(text) // 2 + 3]
    wanted = text[: text.index(word)].rstrip()
    found = post(address, **body, stop=[word, "\0never"]).json()["choices"][0]
    assert found["finish_reason"] == "stop" and found["message"]["content"] == wanted and service.taken == 0
    with httpx.stream(
        "POST", f"{address}/v1/chat/completions", json={**body, "stop": word, "stream": True}, timeout=60
    ) as answer:
        pieces = chunks(answer)
    shown = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
    assert shown.rstrip() == wanted and pieces[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_usage_of_a_stream_comes_in_a_chunk_of_its_own_where_it_is_asked_for(server):
    address, _ = server
    body = asked(stream=True, stream_options={"include_usage": True}, max_tokens=4)
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as answer:
        found = chunks(answer)
    assert found[-1]["choices"] == [] and found[-1]["usage"]["total_tokens"] > found[-1]["usage"]["completion_tokens"] > 0
    assert all(piece["choices"] for piece in found[:-1])


def test_the_models_context_holds_prompt_and_answer(tmp_path):
    short = load(write_checkpoint(tmp_path, max_position_embeddings=40))
    long = "the red circle " * 10
    with serving(short) as (address, _):
        refused = post(address, **asked(long))
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
        cut = post(address, **asked("a", modalities=["text"], max_tokens=200, temperature=1.0, seed=4)).json()
        assert cut["usage"]["total_tokens"] <= 40
        assert cut["choices"][0]["finish_reason"] == ("length" if cut["usage"]["total_tokens"] == 40 else "stop")
    with pytest.raises(DataError, match="context"):
        short.answer([[Text(long)]])
    (answer,) = short.answer([[Text("a")]], max_new_tokens=500, outputs=["speech"], speech={"temperature": 1.0})
    assert len(short.prompts([[Text("a")]])[0].ids) + len(answer.ids) == 40


def test_no_media_are_decoded_before_all_of_a_request_are_known_to_be_within_the_budget(server, monkeypatch):
    address, _ = server
    seen = []
    monkeypatch.setattr("mmpt.tokenizers.multimodal.decode_image", lambda *a: seen.append(a) or decode_image(*a))
    pictures = [{"type": "image_url", "image_url": {"url": bilevel(90)}}] * 3
    assert post(address, messages=user(*pictures)).status_code == 400 and not seen
    assert post(address, messages=user(*pictures[:2]), max_tokens=2).status_code == 200 and len(seen) == 2


def test_who_sends_text_does_not_wait_for_others_pictures(server, monkeypatch):
    address, _ = server
    go = threading.Event()
    monkeypatch.setattr("mmpt.tokenizers.multimodal.decode_image", lambda *a: go.wait(20) and decode_image(*a))
    picture = user({"type": "image_url", "image_url": {"url": data_url()}})
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(post, address, messages=picture, max_tokens=2) for _ in range(3)]
        try:
            assert post(address, **asked(max_tokens=2)).status_code == 200
            assert not any(one.done() for one in waiting)
        finally:
            go.set()
        assert [one.result().status_code for one in waiting] == [200] * 3


@pytest.mark.slow
def test_the_openai_client_is_understood(server):
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    address, _ = server
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)
    (model,) = [one.id for one in client.models.list()]
    assert client.models.retrieve(model).id == model
    said = {"model": model, "messages": [{"role": "user", "content": "the red"}], "max_tokens": 4, "modalities": ["text"]}
    answer = client.chat.completions.create(**said)
    assert answer.choices[0].message.content and answer.usage.completion_tokens == 4
    again = [*said["messages"], answer.choices[0].message.model_dump(), {"role": "user", "content": "a"}]
    assert client.chat.completions.create(**{**said, "messages": again}).choices
    streamed = list(client.chat.completions.create(**said, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in streamed[:-1]) == answer.choices[0].message.content
    assert streamed[-1].usage.completion_tokens == 4
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**said, "model": "gpt-17"})
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**said, response_format={"type": "json_object"})


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
