"""How soon a server answers in sound, and how much it answers, under 1, 4, 16 and 64 clients.

    python recipes/benches/clients.py RUN

RUN: a finished training that speaks. Clients ask the questions of recipes/benches/serving.py, for sound alone: seconds
until the first sound (median and 95 %), sound a second of all together, the real-time factor that one client sees, and tokens a
second. Writes recipes/results/clients-DEVICE.json, figure by figure.
"""

import argparse
import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import serving
import torch

from mmpt.kernels.device import device_name, file_name
from mmpt.results import Figure, gather

CLIENTS, SECONDS = (1, 4, 16, 64), 30.0


class Answer(NamedTuple):
    """Of one question: seconds to the first sound (None without any) and to the end, seconds of sound, tokens."""

    first: float | None
    whole: float
    sound: float
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    port = random.randrange(20_000, 32_000)
    command = [sys.executable, "-m", "mmpt.cli", "serve", str(run), "--port", str(port)]
    server = subprocess.Popen(command, env={"OMP_NUM_THREADS": "1", **os.environ})
    name = file_name(device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
    try:
        address = f"http://127.0.0.1:{port}"
        serving.wait(address, server)
        passed = gather(measured(address), serving.ROOT / "recipes" / "results" / f"clients-{name}", ["fastapi", "uvicorn"])
    finally:
        server.terminate()
        server.wait(20)
    sys.exit(0 if passed else 1)


def measured(address: str, clients: tuple[int, ...] = CLIENTS, seconds: float = SECONDS) -> Iterator[Figure]:
    spoken(address, 0)  # the first answer compiles and fills caches
    for count in clients:
        answers, problems, spent = together(address, count, seconds)
        where = f"{count} clients"
        first = [answer.first for answer in answers if answer.first is not None]
        if first:
            yield Figure(f"{where}: seconds to the first sound, median", statistics.median(first))
            yield Figure(f"{where}: seconds to the first sound, 95 %", sorted(first)[int(0.95 * (len(first) - 1))])
            factors = [answer.whole / answer.sound for answer in answers if answer.sound]
            yield Figure(f"{where}: real-time factor of an answer, median", statistics.median(factors))
        yield Figure(f"{where}: seconds of sound a second", sum(answer.sound for answer in answers) / spent)
        yield Figure(f"{where}: tokens/s", sum(answer.tokens for answer in answers) / spent)
        yield Figure(f"{where}: errors", problems, 0, at_most=True)


def together(address: str, count: int, seconds: float) -> tuple[list[Answer], int, float]:
    """(answers, errors, seconds) of `count` clients that ask for `seconds`."""
    answers, problems, begun = [], [], time.perf_counter()

    def client(place: int) -> None:
        number = 0
        while time.perf_counter() - begun < seconds:
            try:
                answers.append(spoken(address, 2 * (place + count * number)))  # even questions: those that ask for speech
            except Exception as problem:
                problems.append(problem)
                return
            number += 1

    threads = [threading.Thread(target=client, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, len(problems), time.perf_counter() - begun


def spoken(address: str, number: int) -> Answer:
    where, began, first, sound, tokens = urlsplit(address), time.perf_counter(), None, 0.0, 0
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    body = {**serving.question(number), "stream": True, "modalities": ["audio"]}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()[:200]!r}")
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            choice = json.loads(line[6:])["choices"][0]
            delta, tokens = choice["delta"], tokens + len(choice["token_ids"])
            if "data" in delta.get("audio", {}):
                first = time.perf_counter() - began if first is None else first
                sound += len(base64.b64decode(delta["audio"]["data"])) / 2 / delta["audio"]["sample_rate"]
        return Answer(first, time.perf_counter() - began, sound, tokens)
    finally:
        connection.close()


if __name__ == "__main__":
    main()
