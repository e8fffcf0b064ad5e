"""Requests of a file through the server's own routes, in this process and without a network: what is refused and how it is
answered is the same by construction. The engine writes them side by side (continuous batching)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx

from mmpt.errors import DataError
from mmpt.inference.batch.answers import Answers
from mmpt.inference.batch.requests import custom_id, lines, parse
from mmpt.inference.decoding import Decode
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.api import build_app
from mmpt.inference.server.limits import Limits

AGAIN = (429, 503)
"""What the server says where it has no room just now."""
WAIT = 0.2
"""Seconds until it is asked again."""
FOREVER = 1e7


async def run_batch(
    batch: Path,
    answers: Answers,
    model: MultimodalModel,
    name: str,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    decode: Decode | None = None,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Answer each line of `batch` that has no answer yet. `told` is called after each. `limits.running` are written at once, and
    as many more are read meanwhile; no answer is cut off for its time."""
    ahead = 2 * limits.running
    app = build_app(model, name, replace(limits, request=FOREVER, arrival=FOREVER, waiting=4 * ahead), decode=decode)
    places = asyncio.Semaphore(ahead)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client,
        asyncio.TaskGroup() as group,
    ):

        async def answer(number: int, line: bytes) -> None:
            try:
                await _answer(client, answers, batch.parent, limits.body, number, line)
                told()
            finally:
                places.release()

        for number, line in lines(batch):
            if number not in answers.done:
                await places.acquire()
                group.create_task(answer(number, line))


async def _answer(client: httpx.AsyncClient, answers: Answers, folder: Path, most: int, number: int, line: bytes) -> None:
    try:
        url, body = await asyncio.to_thread(parse, line, folder, most)
    except DataError as problem:
        answers.refuse(number, custom_id(line), str(problem))
        return
    while True:
        reply = await client.post(url, json=body)
        if reply.status_code not in AGAIN:
            break
        await asyncio.sleep(WAIT)
    answers.add(number, custom_id(line), reply.status_code, reply.json())
