"""The server under attack: what other clients feel of it, what it costs, and whether it ever fails.

    OMP_NUM_THREADS=1 python recipes/benches/attacks.py [RUN]

RUN: a finished quickstart (default runs/quickstart). Four honest clients ask one question after the other, each from an address
of its own; beside them one attack after the other, from other addresses and by processes that yield the cores to the server, and
in the end all of them and fuzzed requests at once. Takes six to eight minutes. Writes recipes/results/attacks.json.
"""

import http.client
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count, cycle
from pathlib import Path

import fuzzing
import hostile
import numpy as np
import PIL.Image
import serving

from mmpt.results import Figure, report

HONEST, KNOWN, SECONDS, LONG, TOGETHER = 4, 24, 6.0, 30.0, 60.0
FUZZERS, FUZZED = 8, "fuzzed requests"
"""Those who send what fuzzing.py sends, each from an address of its own."""
PATIENCE = 60.0
"""Seconds until an honest client gives an answer up."""
Seen = Counter[int]
"""Statuses of answers."""


def main() -> None:
    run = sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"
    port = random.randrange(20_000, 32_000)
    command = [sys.executable, "-m", "mmpt.cli", "serve", run, "--port", str(port), "--grace", "5"]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        serving.wait(f"http://127.0.0.1:{port}", server)
        figures = list(measured(port, server.pid))
        serving.wait(f"http://127.0.0.1:{port}", server)
    finally:
        server.terminate()
        code = server.wait(60)
    figures.append(Figure("exit code of the server behind them", code, 0, at_most=True))
    sys.exit(0 if report(figures, serving.ROOT / "recipes" / "results" / "attacks.json", ["fastapi", "uvicorn", "h11"]) else 1)


def measured(port: int, pid: int) -> Iterator[Figure]:
    made()
    known = {number: answer(port, 0, number)[0] for number in range(KNOWN)}
    before = memory(pid)
    statuses, mixed, failures = Counter(), 0, 0

    def ratio(names: list[str], seconds: float) -> float:
        nonlocal mixed, failures
        settled(port)
        alone, beside = honest(port, known, SECONDS), under(port, known, names, statuses, seconds)
        mixed, failures = mixed + alone.mixed + beside.mixed, failures + alone.failed + beside.failed
        medians = [statistics.median(told.seconds) for told in (alone, beside)]
        print(f"{', '.join(names)}: {medians[0]:.3f} s, {medians[1]:.3f} s", flush=True)
        return medians[1] / medians[0]

    for name in ATTACKS:
        if name != FUZZED:
            seconds = LONG if "prompts" in name else SECONDS  # an attack of several rounds
            yield Figure(f"{name}: median answer of others over that without", ratio([name], seconds), 2.0, at_most=True)
    yield Figure("memory after each attack over that before", memory(pid) / before)
    together = ratio(list(ATTACKS), TOGETHER)
    yield Figure("all of them and fuzzed requests at once: median answer of others over that without", together)
    print("statuses:", dict(statuses))
    yield Figure("requests of attackers that were answered", statuses.total() - statuses[0])
    yield Figure("of them with 5xx", sum(count for status, count in statuses.items() if status >= 500), 0, at_most=True)
    yield Figure("answers of others that differ from those given alone", mixed, 0, at_most=True)
    yield Figure("requests of others that failed", failures, 0, at_most=True)
    yield Figure("requests still held at the end", settled(port), 0, at_most=True)
    yield Figure("memory at the end, GB", memory(pid) / 1e6)
    yield Figure("memory at the end over that before", memory(pid) / before)


def settled(port: int) -> int:
    """Requests that are held once nobody asks any more."""
    deadline = time.monotonic() + 30
    while (held := serving.get(f"http://127.0.0.1:{port}", "/health")["requests"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


class Told:
    """What honest clients saw: seconds of each answer, answers of other words, and requests that failed."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.mixed = self.failed = 0


def honest(port: int, known: dict[int, list[int]], seconds: float) -> Told:
    """What they see for `seconds`."""
    told, until = Told(), time.perf_counter() + seconds

    def client(place: int) -> None:
        draw = random.Random(place)
        while time.perf_counter() < until:
            number = draw.randrange(KNOWN)
            try:
                ids, spent = answer(port, place + 1, number)
            except (OSError, http.client.HTTPException, RuntimeError) as problem:
                print("an honest client:", repr(problem)[:200], flush=True)
                told.failed += 1
                continue
            told.seconds.append(spent)
            told.mixed += ids != known[number]

    threads = [threading.Thread(target=client, args=(place,)) for place in range(HONEST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def under(port: int, known: dict[int, list[int]], names: list[str], statuses: Seen, seconds: float) -> Told:
    """What honest clients see for `seconds` under attacks."""
    context = multiprocessing.get_context("fork")  # they know the bodies that were made before
    ready, stop, found = context.Barrier(len(names) + 1), context.Event(), context.SimpleQueue()
    given = [(port, place, name, ready, stop, found) for place, name in enumerate(names)]
    attackers = [context.Process(target=attack, args=one, daemon=True) for one in given]
    for one in attackers:
        one.start()
    ready.wait(900)
    time.sleep(2.0)  # it is on its way
    told = honest(port, known, seconds)
    stop.set()
    for _ in attackers:
        statuses.update(found.get())
    for one in attackers:
        one.join(60)
    return told


def answer(port: int, place: int, number: int) -> tuple[list[int], float]:
    """(Ids, seconds) of the answer to a question, asked from an address of its own."""
    body = json.dumps(serving.question(number)).encode()
    begun = time.perf_counter()
    status, said = exchange(port, f"127.0.1.{place + 1}", CHAT, body)
    if status != 200:
        raise RuntimeError(f"{status}: {said[:200]!r}")
    return json.loads(said)["choices"][0]["token_ids"], time.perf_counter() - begun


CHAT = ("POST", "/v1/chat/completions")


def exchange(port: int, source: str, asked: tuple[str, str], body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
    """(status, body) of what is answered to `asked`, a method and a path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=(source, 0))
    try:
        connection.request(*asked, body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def memory(pid: int) -> float:
    """kB that the server has in memory, in all its processes."""
    own = next(float(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
    children = " ".join(one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/children"))
    return own + sum(memory(int(child)) for child in children.split())


# --- in a process of the attacker's


class Attacker:
    """Somebody at an address of its own; what it is answered is counted."""

    def __init__(self, port: int, source: str, stop) -> None:
        self.port, self.source, self.stop, self.seen = port, source, stop, Counter()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(self.source, 0))

    def send(self, body: bytes, kind: str = "application/json", asked: tuple[str, str] = CHAT) -> None:
        try:
            self.seen[exchange(self.port, self.source, asked, body, kind)[0]] += 1
        except (OSError, http.client.HTTPException):
            self.seen[0] += 1

    def at_once(self, threads: int, work: Callable[[int], None]) -> None:
        """`work` again and again in so many threads until it is over."""

        def repeat(number: int) -> None:
            while not self.stop.is_set():
                try:
                    work(number)
                except OSError:
                    self.seen[0] += 1
                    time.sleep(0.05)

        for number in range(threads):
            threading.Thread(target=repeat, args=(number,), daemon=True).start()

    def bodies(self, threads: int, content: list[bytes]) -> Callable[[], None]:
        given = cycle(content)
        return lambda: self.at_once(threads, lambda _: self.send(next(given)))


def attack(port: int, place: int, name: str, ready, stop, found) -> None:
    os.nice(10 if name == FUZZED else 19)
    attacker = Attacker(port, f"127.0.2.{place + 1}", stop)
    begin = ATTACKS[name](attacker)
    ready.wait(900)
    begin()
    stop.wait()
    found.put(attacker.seen)
    os._exit(0)  # threads may be waiting for an answer


@cache
def made() -> list[bytes]:
    """Hostile bodies of all sizes; damaged EXIF alone would print a warning each time."""
    return [body for name, body in hostile.bodies() if "EXIF" not in name]


def bombs(attacker: Attacker) -> Callable[[], None]:
    return attacker.bodies(4, [body for body in made() if len(body) < 4_000_000])


def heavy(attacker: Attacker) -> Callable[[], None]:
    return attacker.bodies(4, [body for body in made() if len(body) > 4_000_000])


def largest_pictures(attacker: Attacker) -> Callable[[], None]:
    part = hostile.picture(hostile.saved(PIL.Image.effect_noise((4000, 4000), 50), "JPEG", quality=20), "jpeg")
    return attacker.bodies(8, [hostile.asking(part, part)])


def longest_sounds(attacker: Attacker) -> Callable[[], None]:
    noise = (np.random.default_rng(0).normal(0, 0.1, 8000 * 118) * 32767).astype("<i2").tobytes()
    silent = hostile.wav(8000 * 118, 8000)
    return attacker.bodies(8, [hostile.asking(hostile.sound(silent[:44] + noise), hostile.sound(silent))])


def prompts(words: int, threads: int) -> Callable[[Attacker], Callable[[], None]]:
    body = hostile.asking({"type": "text", "text": "a red circle and " * words})
    return lambda attacker: attacker.bodies(threads, [body])


def longest_answers(attacker: Attacker) -> Callable[[], None]:
    body = hostile.asking({"type": "text", "text": "say a"}, max_tokens=4000, temperature=5.0, modalities=["audio"])
    return attacker.bodies(100, [body])


def unread_streams(attacker: Attacker) -> Callable[[], None]:
    """It asks for as much as it may, and reads nothing."""
    fields = {"max_tokens": 4000, "temperature": 5.0, "modalities": ["text", "image", "audio"], "stream": True}
    body = hostile.asking({"type": "text", "text": "draw"}, **fields)

    def work(_: int) -> None:
        with attacker.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.sendall(head(attacker.port, len(body)) + body)
            attacker.stop.wait(60)

    return lambda: attacker.at_once(60, work)


def head(port: int, length: int) -> bytes:
    where = f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    return f"POST /v1/chat/completions HTTP/1.1\r\n{where}".encode()


def trickled(begin: Callable[[int], bytes], most: int) -> Callable[[Attacker], Callable[[], None]]:
    """Many connections that send a byte now and then."""

    def prepared(attacker: Attacker) -> Callable[[], None]:
        def one(_: int) -> None:
            clients: list[socket.socket] = []
            while not attacker.stop.is_set():
                while len(clients) < most and not attacker.stop.is_set():
                    clients.append(attacker.connect())
                    clients[-1].sendall(begin(attacker.port))
                for client in [*clients]:
                    try:
                        client.sendall(b"a")
                    except OSError:
                        clients.remove(client)
                attacker.stop.wait(1.0)

        return lambda: attacker.at_once(1, one)

    return prepared


def storm(attacker: Attacker) -> Callable[[], None]:
    """A hundred times a second: connect, ask, leave."""
    body = json.dumps({**serving.question(0), "stream": True}).encode()

    def work(number: int) -> None:
        with attacker.connect() as client:
            client.sendall(head(attacker.port, len(body)) + body)
            time.sleep(0.01 * (number % 3))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        time.sleep(0.1)

    return lambda: attacker.at_once(11, work)


def no_http(attacker: Attacker) -> Callable[[], None]:
    given = cycle([data for _, data in hostile.raw(f"127.0.0.1:{attacker.port}")])

    def work(_: int) -> None:
        with attacker.connect() as client:
            client.settimeout(0.5)
            client.sendall(next(given))
            attacker.seen[int(client.recv(4096)[9:12] or 0)] += 1

    return lambda: attacker.at_once(4, work)


def other_origin(attacker: Attacker) -> Callable[[], None]:
    """What a browser sends for another site's page."""
    body = hostile.asking(max_tokens=4000)
    return lambda: attacker.at_once(2, lambda _: attacker.send(body, "text/plain"))


def fuzzed(attacker: Attacker) -> Callable[[], None]:
    """Random requests to all routes, by several at once."""
    others = [Attacker(attacker.port, f"127.0.3.{place + 1}", attacker.stop) for place in range(FUZZERS)]
    numbers = count()
    for one in others:
        one.seen = attacker.seen

    def work(place: int) -> None:
        number = next(numbers)
        method, path, body, kind = fuzzing.fuzzed(random.Random(number), number)
        others[place].send(body, kind, (method, path))

    return lambda: attacker.at_once(FUZZERS, work)


ATTACKS: dict[str, Callable[[Attacker], Callable[[], None]]] = {
    "bombs and lies": bombs,
    "the heaviest bodies": heavy,
    "the largest pictures": largest_pictures,
    "the longest sounds": longest_sounds,
    "the longest prompts": prompts(1200, 8),
    "many prompts": prompts(40, 32),
    "the longest answers, all places": longest_answers,
    "streams that nobody reads": unread_streams,
    "slow heads": trickled(lambda port: f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX: ".encode(), 500),
    "slow bodies": trickled(lambda port: head(port, 100_000), 500),
    "3,000 connections": trickled(lambda port: b"G", 3000),
    "asking and leaving": storm,
    "what is no HTTP": no_http,
    "other origins": other_origin,
    FUZZED: fuzzed,
}

if __name__ == "__main__":
    main()
