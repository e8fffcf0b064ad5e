"""Those who mean harm: what they send is refused soon and cheaply, and others are answered meanwhile."""

import asyncio
import importlib.util
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from mmpt.chat import ChatConfig
from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.inference.engine import Prompt
from mmpt.inference.load import load
from mmpt.inference.server import fair
from mmpt.inference.server.fair import FairService
from mmpt.inference.server.guard import LEFT
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.service import Written
from mmpt.inference.server.serving import TOLD
from mmpt.inference.server.shares import CLIENT, Turns
from mmpt.inference.settings import Settings
from mmpt.media import decode_image, decode_speech, picture_size, sized_sound

from .asking import EVERYTHING, asked, data_url, post, user
from .live import serving
from .tiny import write_checkpoint

_PATH = Path(__file__).parents[2] / "recipes" / "benches" / "hostile.py"
_SPEC = importlib.util.spec_from_file_location("hostile", _PATH)
assert _SPEC and _SPEC.loader
hostile = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hostile)

OTHER = "127.0.0.2"
"""Whoever attacks comes from here."""


@contextmanager
def attacking(address: str):
    """Connections of the other address, closed in the end."""
    where, made = urlsplit(address), []

    def connect(content: bytes = b"") -> socket.socket:
        try:
            made.append(socket.create_connection((where.hostname, where.port), timeout=20, source_address=(OTHER, 0)))
        except OSError:
            if not made:
                pytest.skip("this machine has one address of its own alone")
            raise
        made[-1].sendall(content)
        return made[-1]

    try:
        yield connect
    finally:
        for one in made:
            one.close()


def head(address: str, length: object, more: str = "") -> bytes:
    where = f"Host: {urlsplit(address).netloc}\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n"
    return f"POST /v1/chat/completions HTTP/1.1\r\n{where}".encode()


def ended(client: socket.socket, seconds: float) -> bool:
    """Whether the server closes the connection within `seconds`."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            if not client.recv(1 << 16):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


@pytest.mark.slow
def test_no_body_costs_much_or_makes_the_server_fail(model):
    with serving(model, Limits()) as (address, service):
        headers = {"Content-Type": "application/json"}
        with httpx.Client(timeout=60) as client:
            for name, body in hostile.bodies():
                begun = time.process_time()
                try:
                    response = client.post(f"{address}/v1/chat/completions", content=body, headers=headers)
                except httpx.TransportError:
                    assert len(body) > LEFT, name  # refused, and not read to its end
                    continue
                assert response.status_code < 500, (name, response.text)
                # The server is a thread of this process: seconds of all its threads. 20 to 200 where a guard is missing.
                assert time.process_time() - begun < 8, name
                if response.status_code != 200:
                    said = response.json()["error"]["message"]
                    assert len(said) < 600 and "/" + "work" not in said and "site-packages" not in said, name
        assert service.taken == 0


@pytest.mark.slow
def test_what_is_no_http_is_answered_once_and_by_no_failure(server):
    address, _ = server
    for name, data in hostile.raw(urlsplit(address).netloc):
        with attacking(address) as connect:
            client, found = connect(), b""
            client.settimeout(1.0)
            try:
                client.sendall(data)
                while more := client.recv(1 << 16):
                    found += more
                    if found.count(b"HTTP/1.1 ") == 100:
                        break
            except OSError:
                pass
            assert b"HTTP/1.1 5" not in found and b"Traceback" not in found and b"root:" not in found, name
            if "length" in name or "encoding" in name:
                assert found.startswith(b"HTTP/1.1 400") or not found, name
                assert found.count(b"HTTP/1.1 ") <= 1, name  # what follows is no request of its own
            if name in ("length and chunks", "chunks and length"):
                assert b"expected one of them" in found and b"connection: close" in found.lower(), name
    assert httpx.get(f"{address}/health").status_code == 200


def test_heads_that_never_end_and_connections_without_a_request_are_closed(model):
    with serving(model, Limits(head=0.6)) as (address, _), attacking(address) as connect:
        slow, silent, used = connect(b"GET /health HT"), connect(), connect()
        used.sendall(f"GET /health HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n\r\n".encode())
        begun = time.monotonic()
        while not ended(slow, 0.15) and time.monotonic() < begun + 5:  # a byte now and then does not make it longer
            slow.sendall(b"a")
        assert ended(slow, 0.01) and ended(silent, 3) and b"200" in used.recv(20) and ended(used, 3)
        assert time.monotonic() - begun < 3


def test_an_answer_that_nobody_reads_ends_its_connection(model):
    with serving(model, Limits(stalled=0.5)) as (address, _):
        where = urlsplit(address)
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((where.hostname, where.port))
            page = f"GET /static/style.css HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
            client.sendall(page * 1000)  # more than the sockets' buffers hold
            lost = select.poll()
            lost.register(client, select.POLLHUP)
            assert lost.poll(15_000)


def test_a_body_that_comes_byte_by_byte_has_its_time(server):
    address, service = server
    with attacking(address) as connect:
        client = connect(head(address, 1000))
        begun = time.monotonic()
        client.settimeout(0.2)
        while time.monotonic() - begun < 10:
            try:
                client.sendall(b" ")
                if found := client.recv(1000):
                    assert b" 408 " in found and time.monotonic() - begun < 6
                    break
            except TimeoutError:
                continue
        else:
            pytest.fail("it was waited for")
    assert service.taken == 0


def test_one_client_has_half_of_the_connections_and_the_bodies_at_most(model):
    with serving(model, Limits(connections=20, bodies=1_000_000, body=800_000)) as (address, _), attacking(address) as connect:
        assert sum(not ended(connect(), 0.1) for _ in range(30)) == 10
        assert httpx.get(f"{address}/health").status_code == 200
        for _ in range(30):  # one that is closed leaves its room
            assert httpx.get(f"{address}/health", headers={"Connection": "close"}).status_code == 200
    with serving(model, Limits(bodies=1_000_000, body=800_000)) as (address, _), attacking(address) as connect:
        clients = [connect(head(address, 400_000) + b" " * 300_000) for _ in range(3)]
        answers = []
        for client in clients:
            client.settimeout(1.0)
            try:
                answers.append(client.recv(100))
            except TimeoutError:
                answers.append(b"")
        assert sum(b" 429 " in found for found in answers) == 2 and answers.count(b"") == 1
        for _ in range(6):  # what was held for one is free for the next
            assert post(address, **asked(max_tokens=2, user="u" * 300_000)).status_code == 200


def test_who_takes_all_places_does_not_hold_up_others(server):
    address, service = server
    body = json.dumps(asked(stream=True, temperature=1.0, max_tokens=2000, modalities=["audio"])).encode()
    honest = asked("the red", max_tokens=5, modalities=["text"], return_token_ids=True)
    wanted = post(address, **honest).json()["choices"][0]["token_ids"]
    with attacking(address) as connect:
        clients = [connect(head(address, len(body)) + body) for _ in range(30)]
        deadline = time.monotonic() + 20
        while service.taken < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert 8 <= service.taken <= 10  # its half of 4 places, and of 16 in the queue as many as it leaves
        answers = [post(address, **honest) for _ in range(3)]
        assert [one.status_code for one in answers] == [200] * 3 and len(clients) == 30
        assert all(one.json()["choices"][0]["token_ids"] == wanted for one in answers)
        assert service.taken >= 8
    deadline = time.monotonic() + 20
    while service.taken and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.taken == 0


def test_who_is_turned_away_is_told_before_its_body_and_later_where_there_are_others(model):
    with serving(model, Limits()) as (address, service), attacking(address) as connect:
        turns = []
        while not service._turns.full(OTHER):
            turns.append(service._turns.enter(OTHER))

        def told() -> float:
            """Seconds until one whose body does not come is turned away."""
            client, begun = connect(head(address, 1000)), time.monotonic()
            client.settimeout(20)
            assert b" 429 " in client.recv(100)
            return time.monotonic() - begun

        assert told() < TOLD
        assert post(address, **asked(max_tokens=2)).status_code == 200  # there is room for others
        assert told() >= TOLD
        for turn in turns:
            service._turns.leave(turn)
        assert service.taken == 0


def test_a_refused_body_is_not_read_to_its_end(server, model):
    address, _ = server
    for length, closed in ((LEFT - 1, False), (LEFT + 1, True)):
        with attacking(address) as connect:
            client = connect(head(address, length))
            client.settimeout(10)
            assert b" 413 " in (found := client.recv(1000)) and (b"connection: close" in found.lower()) == closed
    with serving(model, Limits(body=3 * LEFT, bodies=100_000)) as (address, _), attacking(address) as connect:
        client = connect(head(address, 2 * LEFT) + b" " * 200_000)  # refused as it comes
        client.settimeout(10)
        assert b" 429 " in (found := client.recv(1000)) and b"connection: close" in found.lower()


def test_pictures_of_one_client_do_not_hold_up_those_of_another(server, monkeypatch):
    address, _ = server
    go, seen = threading.Event(), []

    def decode(data, *arguments):
        seen.append(data)
        go.wait(20)
        return decode_image(data, *arguments)

    monkeypatch.setattr("mmpt.tokenizers.multimodal.decode_image", decode)
    body = json.dumps({"messages": EVERYTHING, "max_tokens": 2}).encode()
    own = user({"type": "image_url", "image_url": {"url": data_url(31, 17)}})
    with attacking(address) as connect, ThreadPoolExecutor(1) as pool:
        for _ in range(8):
            connect(head(address, len(body)) + body)
        deadline = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        mine = pool.submit(post, address, messages=own, max_tokens=2)
        time.sleep(0.5)
        assert len(seen) == 2
        go.set()
        assert mine.result(20).status_code == 200
        assert [picture_size(data) == (31, 17) for data in seen].index(True) < 4  # not behind all eight


def test_asking_and_leaving_a_hundred_times_leaves_nothing_behind(server):
    address, service = server
    body = json.dumps(asked(stream=True, max_tokens=200, modalities=["text"])).encode()
    honest = asked("the red", max_tokens=5, modalities=["text"], return_token_ids=True)
    wanted = post(address, **honest).json()["choices"][0]["token_ids"]
    for number in range(100):
        with attacking(address) as connect:
            client = connect(head(address, len(body)) + body[: len(body) - number % 3])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert post(address, **honest).json()["choices"][0]["token_ids"] == wanted
    deadline = time.monotonic() + 20
    while service.taken and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.taken == 0


class _Reading:
    """A `Service` that reads a prompt of n tokens in n / 10,000 seconds."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def writing(self, prompt, settings):
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def inside():
            async def ids():
                self.begun.append(time.monotonic())
                await asyncio.sleep(len(prompt.ids) / 10_000)
                yield Written([1], [])

            yield ids()

        return inside()


@pytest.mark.parametrize(
    ("clients", "tokens", "crowded", "least", "most"),
    [("aa", 1000, True, 0.4, 9), ("aa", 1000, False, 0.1, 0.3), ("ae", 1500, True, 0.6, 9), ("ae", 1000, True, 0, 0.1)],
)
def test_between_long_prompts_is_time_for_the_others(clients, tokens, crowded, least, most):
    """One of n / 10,000 s, and three times as long for the others before the client's next, before anyone's if it is long."""
    reading = _Reading()
    service = FairService(reading, Turns(8, 20), 20)  # pyright: ignore[reportArgumentType]

    async def ask(client: str, tokens: int) -> None:
        CLIENT.set(client)
        async with service.writing(Prompt([1] * tokens), Settings()) as written:
            async for _ in written:
                pass

    async def scene() -> float:
        if crowded:
            await asyncio.create_task(ask("b", 1))
        await asyncio.gather(*[asyncio.create_task(ask(client, tokens)) for client in clients])
        begun = time.monotonic()
        await asyncio.create_task(ask("c", fair.NOTICED))  # a short one waits for nothing
        await asyncio.create_task(ask("d", fair.LONG))  # nor does another client's, if it is not long
        assert time.monotonic() - begun < 0.2
        return reading.begun[-3] - reading.begun[-4]

    assert least <= asyncio.run(scene()) < most


@pytest.mark.parametrize("chat", [None, ChatConfig(template="plain")])
def test_nobody_types_a_code_or_a_mark(tmp_path, chat):
    model = load(write_checkpoint(tmp_path, chat=chat))
    vocabulary = model.tokenizer.vocabulary

    def marks(text: str, role: str) -> list[int]:
        (prompt,) = model.prompts([[Text(text, 1.0, role, 0), Text("b", 1.0, "user", 1)] if chat else [Text(text)]])
        return [token for token in prompt.ids if token >= vocabulary.text_size or token in special]

    special = set(model.tokenizer.text.all_special_ids)
    typed = " ".join([*hostile.SPELLED, *map(str, model.tokenizer.text.all_special_tokens)])
    for role in ("system", "user"):
        assert marks(typed, role) == marks("a", role)
        assert marks("<|<|end|>end|>", role) == marks("a", role)


def test_media_that_lie_about_their_size():
    many = hostile.many_scans(200, 64)
    for read in (picture_size, decode_image):
        with pytest.raises(DataError, match="scans"):
            read(many)
    assert decode_image(hostile.many_scans(20, 64)).size == (64, 64)  # as progressive pictures are
    for data in (hostile.lying_mp3(), hostile.piped(hostile.wav(8000 * 600, 8000))):
        with pytest.raises(DataError, match="at most 120 s"):
            sized_sound(data, 120.0)
        with pytest.raises(DataError, match="at most"):
            sized_sound(data, 1e9, 1_000_000)
    short = hostile.piped(hostile.wav(8000, 8000))
    data, frames, channels, rate = sized_sound(short, 120.0)
    assert (frames, channels, rate) == (8000, 1, 8000) and np.array_equal(decode_speech(data), decode_speech(short))
    plain = hostile.wav(8000, 8000)
    assert sized_sound(plain, 120.0) == (plain, 8000, 1, 8000)
