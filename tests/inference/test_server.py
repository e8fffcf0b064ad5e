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
import soxr

from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.inference.load import load
from mmpt.media import decode_image

from .asking import EVERYTHING, HOT, asked, bilevel, chunks, data_url, post, user
from .live import serving
from .tiny import write_checkpoint


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_whole_and_in_a_stream(server, model, seed):
    address, _ = server
    whole = post(address, messages=EVERYTHING, seed=seed, **HOT).json()
    message = whole["choices"][0]["message"]
    assert whole["object"] == "chat.completion" and whole["model"] == "tiny" and message["role"] == "assistant"
    assert [part["index"] for part in message["parts"]] == list(range(len(message["parts"])))
    texts = [part["text"] for part in message["parts"] if part["type"] == "text"]
    assert message["content"] == (" ".join(texts) if texts else None)
    ids = whole["choices"][0]["token_ids"]
    assert whole["usage"]["completion_tokens"] == len(ids)
    model.tokenizer.vocabulary.split(ids)
    assert [i for part in message["parts"] for i in part["ids"]] == ids
    body = {"messages": EVERYTHING, "seed": seed, "stream": True, **HOT}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = chunks(response)
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert [i for chunk in found for i in chunk["choices"][0]["token_ids"]] == ids
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
            kept, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])), dtype="float32")
            wanted = soxr.resample(kept, rate, 24_000) * 32767
            assert rate == 16_000 and np.abs(np.frombuffer(pcm, "<i2") - wanted).max() <= 3


def test_an_answer_can_be_sent_back(server):
    address, _ = server
    first = post(address, messages=EVERYTHING, seed=2, **HOT).json()["choices"][0]["message"]
    more = [*EVERYTHING, {"role": "assistant", "content": first["parts"]}, *user({"type": "text", "text": "a"})]
    assert post(address, messages=more, max_tokens=5).status_code == 200


@pytest.mark.slow
def test_many_clients_get_their_own_answers(server):
    address, service = server
    bodies = [asked("the red " * (1 + n % 5), seed=n, **HOT) for n in range(16)]
    wanted = [post(address, **body).json()["choices"][0]["token_ids"] for body in bodies]

    def patient(body: dict) -> list[int]:
        while (response := post(address, **body)).status_code == 429:
            assert response.headers["retry-after"] == "1"
            time.sleep(0.05)
        return response.json()["choices"][0]["token_ids"]

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
    for number in range(12):  # 4 run, 8 wait
        if number == 10:  # there is room for two of three answers: then none of them stays
            assert post(address, messages=user({"type": "text", "text": "a"}), n=3).status_code == 429 and service.taken == 10
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


def test_a_sampler_of_any_kind_is_asked_for(server, model):
    sampler = {"kind": "min_p", "min_p": 0.2, "temperature": 1.5}
    body = asked("the red", modalities=["text"], max_tokens=20, sampler=sampler, seed=5, return_token_ids=True)
    (wanted,) = model.answer([(Text("the red"),)], outputs=["text"], max_new_tokens=21, text=sampler, seed=5)
    assert post(server[0], **body).json()["choices"][0]["token_ids"] == wanted.ids
    plain = asked("the red", modalities=["text"], max_tokens=20, temperature=1.5, seed=5, return_token_ids=True)
    assert post(server[0], **plain).json()["choices"][0]["token_ids"] != wanted.ids


def test_what_is_null_is_absent_and_an_answer_of_one_token_has_one(server):
    address, _ = server
    names = ("temperature", "top_p", "seed", "n", "stream", "stop", "max_tokens", "tools", "logprobs", "audio", "stream_options")
    bodies = asked(max_completion_tokens=5), asked(max_completion_tokens=5, **dict.fromkeys(names))
    plain, nulls = (post(address, **body).json()["choices"][0]["message"]["parts"] for body in bodies)
    assert nulls == plain
    one = post(address, **asked(max_tokens=1, modalities=["text"], return_token_ids=True)).json()
    assert one["usage"]["completion_tokens"] == 1 and one["choices"][0]["finish_reason"] == "length"
    assert len(one["choices"][0]["token_ids"]) == 1


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
        client.chat.completions.create(**said, reasoning_effort="high")
