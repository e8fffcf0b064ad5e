"""`/v1/realtime`: who may connect, how much a session and its messages may bring, and when it ends."""

import asyncio
import json
import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as websocket

from mmpt.chat import ChatConfig
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.realtime import _tell

from .asking import data_url, limits
from .live import serving
from .talking import idle, pcm, silence, talking
from .tiny import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """That of a conversation."""
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny"), chat=ChatConfig(template="plain")))


def test_who_may_connect(model):
    with serving(model, replace(limits(), sessions=1), token="hush") as (address, _):
        place = address.replace("http", "ws") + "/v1/realtime"
        key = "openai-insecure-api-key."

        def refused(**options) -> dict:
            with pytest.raises(InvalidStatus) as problem, websocket(options.pop("place", place), **options):
                pass
            answer = problem.value.response
            return {"status": answer.status_code, **json.loads(answer.body)["error"]}

        assert refused()["status"] == 401 and refused(subprotocols=["realtime", key + "wrong"])["status"] == 401
        own = {"additional_headers": {"Authorization": "Bearer hush"}}
        evil = refused(additional_headers={**own["additional_headers"], "Origin": "https://evil.example"})
        assert evil["status"] == 403 and "evil.example" in evil["message"]
        assert refused(place=place + "?model=other", **own)["code"] == "model_not_found"
        port = int(address.rpartition(":")[2])  # a name of another site that points here
        elsewhere = socket.create_connection(("127.0.0.1", port))
        assert refused(place=f"ws://evil.example:{port}/v1/realtime", sock=elsewhere, **own)["status"] == 400
        # A page of this server says its token among the subprotocols.
        with websocket(place, origin=address, subprotocols=["realtime", key + "hush"]) as page:
            assert page.subprotocol == "realtime" and json.loads(page.recv())["type"] == "session.created"
            assert refused(**own)["status"] == 429


def test_a_session_that_says_nothing_or_too_much_ends(model):
    with serving(model, replace(limits(), idle=0.5, message=2000)) as (address, service):
        place = address.replace("http", "ws") + "/v1/realtime"
        for told, code in ((None, "session_expired"), ("a" * 2001, "message_too_large")):
            with websocket(place) as session:
                if told:
                    session.send(told)
                found = []
                with pytest.raises(ConnectionClosed):
                    while True:
                        found.append(json.loads(session.recv(timeout=10)))
                assert found[-1]["error"]["code"] == code
        with websocket(place) as session:
            session.send(json.dumps({"type": "session.update", "session": {"temperature": 1.3, "output_modalities": ["text"]}}))
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
            session.send(json.dumps({"type": "conversation.item.create", "item": item}))
            session.send(json.dumps({"type": "response.create"}))
            while json.loads(session.recv(timeout=10))["type"] != "response.output_text.delta":
                pass
        idle(service)  # its client has gone in the middle of an answer


def said(*content: dict, **fields) -> dict:
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": list(content)}, **fields}


def test_messages_are_within_the_limits_of_bodies(model):
    """Each is refused for what it brings, and the session goes on."""
    text, image = {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": data_url(50, 50)}
    sound = {"type": "input_audio", "audio": pcm(silence(1.5))}
    own = replace(limits(), text=1000, values=60, all_pixels=6000, all_sound=4.0, items=5)
    answer = {"type": "response.create", "response": {"input": [said(text)["item"]] * 6}}
    again = {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "long"}] * 2}}
    with serving(model, own) as (address, service), websocket(address.replace("http", "ws") + "/v1/realtime") as session:
        long = said({"type": "input_text", "text": "b" * 600})
        session.send(json.dumps({**long, "item": {**long["item"], "id": "long"}}))
        for message, reason in (
            ({"type": "session.update", "session": {"temperature": 1.0}, "event_id": "a," * 70}, "60 values"),
            (said(*[text] * 4, event_id="[" * 70), "60 values"),
            (said({"type": "input_text", "text": "a" * 1000}), "1000 characters"),
            ({"type": "session.update", "session": {"instructions": "a" * 1000}}, "1000 characters"),
            ({"type": "input_audio_buffer.clear", "event_id": "a" * 1000}, "1000 characters"),
            (said(*[image] * 3), "6000 pixels"),
            (said(*[sound] * 3), "4 s in the sounds"),
            (answer, "6 items"),
            (again, "1000 characters"),
            ({"type": "input_audio_buffer.append", "audio": pcm(silence(2.1))}, "more than 2 s"),
        ):
            session.send(json.dumps(message))
            while (told := json.loads(session.recv(timeout=10)))["type"] != "error":
                assert told["type"] in (
                    "session.created",
                    "conversation.created",
                    "conversation.item.added",
                    "conversation.item.done",
                )
            assert reason in told["error"]["message"], (message["type"], told)
        session.send(json.dumps(said(sound)))
        assert json.loads(session.recv(timeout=10))["type"] == "conversation.item.added" and service.taken == 0


def test_one_client_has_half_of_the_sessions_and_of_the_bytes(model):
    with serving(model, replace(limits(), sessions=4, bodies=600_000)) as (address, _):
        place = address.replace("http", "ws") + "/v1/realtime"
        with websocket(place) as first, websocket(place) as second:
            with pytest.raises(InvalidStatus) as problem, websocket(place):
                pass
            assert problem.value.response.status_code == 429
            with websocket(place, source_address=("127.0.0.2", 0)) as other:
                hears = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}}
                append = {"type": "input_audio_buffer.append", "audio": pcm(silence(1.9))}  # 91,200 bytes in, 121,600 kept

                def told(session) -> str:
                    for message in (hears, append, {"type": "input_audio_buffer.append", "audio": "####"}):
                        session.send(json.dumps(message))
                    while (found := json.loads(session.recv(timeout=10)))["type"] != "error":
                        pass
                    return found["error"]["message"]

                assert ["base64" in told(one) for one in (first, second, other)] == [True, False, True]
                second.send("a" * 500_000)
                while "too much at once" not in json.loads(second.recv(timeout=10)).get("error", {}).get("message", ""):
                    pass
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # what was theirs is free
            try:
                with websocket(place) as first, websocket(place):
                    assert "base64" in told(first)
                    return
            except InvalidStatus:
                time.sleep(0.05)
        raise AssertionError("their sessions are not free")


def test_a_message_of_any_size_ends_the_session_before_it_is_held(model):
    """Twice the limit is read at most, and what is compressed is not taken."""
    own = replace(limits(), message=2000)
    with serving(model, own) as (address, _), websocket(address.replace("http", "ws") + "/v1/realtime") as session:
        assert session.response is not None and "deflate" not in session.response.headers.get("Sec-WebSocket-Extensions", "")
        session.send("a" * 5000)
        with pytest.raises(ConnectionClosed) as problem:
            while True:
                session.recv(timeout=10)
        assert problem.value.rcvd is not None and problem.value.rcvd.code == 1009


def test_a_session_has_its_time_and_a_client_that_reads_nothing_too(model):
    own, found = replace(limits(), session=0.6), []
    with serving(model, own) as (address, _), websocket(address.replace("http", "ws") + "/v1/realtime") as session:
        session.send(json.dumps({"type": "input_audio_buffer.clear"}))
        with pytest.raises(ConnectionClosed):
            while True:
                found.append(json.loads(session.recv(timeout=10)))
    assert "open for 0.6 s" in found[-1]["error"]["message"]

    class Unread:
        async def send_text(self, text: str) -> None:
            await asyncio.sleep(60)

    async def tell() -> None:
        ahead: asyncio.Queue = asyncio.Queue()
        ahead.put_nowait({"type": "error"})
        own = SimpleNamespace(limits=Limits(arrival=0.1))
        await asyncio.wait_for(_tell(own, Unread(), ahead), 30)  # pyright: ignore[reportArgumentType]

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(tell())
    assert time.monotonic() - begun < 10


def test_sound_that_waits_is_bounded(model):
    with serving(model, limits()) as (address, _), talking(address) as talk:
        talk.by_hand()
        talk.say(silence(2.4), piece=0.8)
        assert talk.until("error").error.code == "input_audio_buffer_full"


def test_so_many_responses_are_written_at_once(model):
    with serving(model, replace(limits(), responses=2)) as (address, _), talking(address) as talk:
        talk.by_hand(output_modalities=["text"])
        for _ in range(3):
            talk.connection.response.create(
                response={"conversation": "none", "input": [said({"type": "input_text", "text": "a"})["item"]]}
            )
        assert "2 responses" in talk.until("error").error.message


def test_websockets_that_were_closed_leave_their_room(model):
    with serving(model, replace(limits(), connections=8)) as (address, _):
        for _ in range(20):
            with websocket(address.replace("http", "ws") + "/v1/realtime") as session:
                session.recv(timeout=10)
