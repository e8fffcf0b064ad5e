"""The server under many clients: speed, order, memory, and clients that die.

    OMP_NUM_THREADS=1 python recipes/benches/serving.py [RUN]

RUN: a finished quickstart's finetuning (default runs/quickstart). Writes recipes/results/serving.json.
"""

import http.client
import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from mmpt.results import Figure, report

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, SECONDS, ALONE, ROUNDS, REQUESTS = 16, 60.0, 20.0, 4, (200, 2000)
COLOURS = ("red", "green", "blue", "yellow", "white", "purple", "orange", "black")
SHAPES = ("circle", "square", "triangle", "star")


def main() -> None:
    run = sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"
    port = random.randrange(20_000, 32_000)
    command = [sys.executable, "-m", "mmpt.cli", "serve", run, "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        address = f"http://127.0.0.1:{port}"
        wait(address, server)
        figures = [*speed(address), *speed(address, "speech"), *memory(address, server.pid), *deaths(address)]
        figures.append(Figure("requests still held at the end", get(address, "/health")["requests"], 0, at_most=True))
    finally:
        server.terminate()
        server.wait(20)
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "serving.json", ["fastapi", "uvicorn"]) else 1)


def question(number: int) -> dict:
    """A prompt that says its number in colours and shapes; half ask for pictures, half for speech."""
    draw = random.Random(number)
    words = " and ".join(f"a {draw.choice(COLOURS)} {draw.choice(SHAPES)}" for _ in range(2))
    content = [{"type": "text", "text": ("draw" if number % 2 else "say")}, {"type": "text", "text": words}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 120, "return_token_ids": True}


def speed(address: str, of: str = "both") -> list[Figure]:
    """One client, then sixteen, each asking one question after the other, and so again, since machines are slower at times;
    answers are compared with those given alone. `of` "speech": questions that ask for speech alone."""
    known: dict[int, list[int]] = {}
    every, least, named = (2, 4.0, ", speech alone") if of == "speech" else (1, 6.0, "")
    rates: dict[str, list[float]] = {"alone": [], "together": []}
    problems, mixed = list[str](), list[int]()
    for _ in range(ROUNDS):
        rates["alone"].append(one_client(address, known, every))
        rates["together"].append(all_clients(address, known, every, problems, mixed))
    alone, together = (sum(found) / ROUNDS for found in rates.values())
    told = {name: [round(rate) for rate in found] for name, found in rates.items()}
    print(f"{len(known)} questions alone, {alone:.0f} tokens/s; {CLIENTS} clients: {together:.0f}", told, *problems[:3])
    return [
        Figure(f"tokens/s of one client{named}", alone),
        Figure(f"tokens/s of {CLIENTS} clients over those of one{named}", together / alone, least),
        Figure(f"their errors in {SECONDS:g} s{named}", len(problems), 0, at_most=True),
        Figure(f"answers that differ from those given alone{named}", len(mixed), 0, at_most=True),
    ]


def one_client(address: str, known: dict[int, list[int]], every: int) -> float:
    """Tokens a second of questions that were not asked before; their answers are `known` then."""
    start, tokens = time.perf_counter(), 0
    while time.perf_counter() - start < ALONE / ROUNDS:
        number = every * len(known)
        known[number] = ask(address, {**question(number), "stream": True})
        tokens += len(known[number])
    return tokens / (time.perf_counter() - start)


def all_clients(address: str, known: dict[int, list[int]], every: int, problems: list[str], mixed: list[int]) -> float:
    """Tokens a second of all of them; `problems` they met, and questions whose answers were `mixed` up."""
    counts, until = [0] * CLIENTS, time.perf_counter() + SECONDS / ROUNDS

    def client(place: int) -> None:
        draw = random.Random(place + 1000 * len(known))
        while time.perf_counter() < until:
            number = every * draw.randrange(len(known))
            try:
                ids = ask(address, {**question(number), "stream": True})
            except Exception as problem:
                problems.append(repr(problem))
                return
            counts[place] += len(ids)
            if ids != known[number]:
                mixed.append(number)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def memory(address: str, server: int) -> list[Figure]:
    """Resident memory of the server's processes after 2,000 requests over that after 200, by four clients."""
    found, asked = [], itertools.count()

    def client(until: int) -> None:
        while (number := next(asked)) < until:
            ask(address, {**question(number), "max_tokens": 40, "stream": True})

    for until in REQUESTS:
        asked = itertools.count(REQUESTS[0] if found else 0)
        threads = [threading.Thread(target=client, args=(until,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        processes = [psutil.Process(server), *psutil.Process(server).children(recursive=True)]
        found.append(sum(process.memory_info().rss for process in processes))
    return [
        Figure(f"GiB after {REQUESTS[0]} requests", found[0] / 2**30),
        Figure(f"memory after {REQUESTS[1]} requests over that after {REQUESTS[0]}", found[1] / found[0], 1.05, at_most=True),
    ]


def deaths(address: str) -> list[Figure]:
    """Three clients killed while they read."""
    context = multiprocessing.get_context("spawn")
    clients = [context.Process(target=endless, args=(address,)) for _ in range(3)]
    for client in clients:
        client.start()
    deadline = time.monotonic() + 60
    while get(address, "/health")["requests"] < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    held = get(address, "/health")["requests"]
    for client in clients:
        os.kill(client.pid, signal.SIGKILL)
    begun = time.monotonic()
    while get(address, "/health")["requests"] and time.monotonic() - begun < 60:
        time.sleep(0.02)
    return [
        Figure("requests of 3 clients before kill -9", held, 3),
        Figure("seconds until their places were free", time.monotonic() - begun, 5.0, at_most=True),
    ]


def endless(address: str) -> None:
    """Ask again and again, each time for much."""
    while True:
        ask(address, {**question(0), "stream": True, "max_tokens": 4000, "modalities": ["audio"], "temperature": 5.0})


def ask(address: str, body: dict) -> list[int]:
    """Ids of a streamed answer."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()[:200]!r}")
        ids: list[int] = []
        for line in response:
            if line.startswith(b"data: {"):
                ids += json.loads(line[6:])["choices"][0]["token_ids"]
        return ids
    finally:
        connection.close()


def get(address: str, path: str) -> dict:
    return json.loads(exchange(address, "GET", path)[1])


def exchange(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """(status, body) of an answer."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait(address: str, server: subprocess.Popen) -> None:
    while server.poll() is None:
        try:
            get(address, "/health")
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
