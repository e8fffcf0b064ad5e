"""The engine's places and its time, shared among clients."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mmpt.inference.engine import Prompt
from mmpt.inference.server.service import Service
from mmpt.inference.server.shares import CLIENT, Turn, Turns
from mmpt.inference.settings import Settings

LONG = 256
"""Tokens of a prompt from which on it is noticed by those who are being answered: all wait while it is read."""
REST = 3.0
"""After a long prompt no other is read for so many times the seconds that it took, while other clients are there."""


class FairService:
    """A `Service` as its routes see it, in which each sequence waits for its client's turn, and long prompts are read one at a
    time, with rests between them. So whoever sends them takes a quarter of the time at most from those who do not."""

    def __init__(self, service: Service, turns: Turns, waiting: int) -> None:
        self._service, self._turns = service, turns
        self._long = Turns(1, waiting)

    def __getattr__(self, name: str):
        return getattr(self._service, name)

    @property
    def taken(self) -> int:
        """Requests that wait or run."""
        return self._turns.taken

    @property
    def full(self) -> bool:
        """Whether there is no room even to wait for who asks."""
        return self._turns.full(CLIENT.get())

    @asynccontextmanager
    async def writing(self, prompt: Prompt, settings: Settings) -> AsyncIterator[AsyncIterator[list[int]]]:
        """Inside, an iterator over the ids of each step. Raises `Busy` where there is no room even to wait."""
        client = CLIENT.get()
        with self._turns.turn(client) as turn:
            found = self._written(prompt, settings, client, turn.come)
            try:
                yield found
            finally:
                await found.aclose()

    async def _written(self, prompt: Prompt, settings: Settings, client: str, come: asyncio.Event) -> AsyncIterator[list[int]]:
        await come.wait()
        begun = time.monotonic()
        lane = self._long.enter(client) if len(prompt.ids) > LONG else None
        try:
            if lane is not None:
                await lane.come.wait()
            begun = time.monotonic()
            async with self._service.writing(prompt, settings) as written:
                async for ids in written:
                    if lane is not None:
                        self._rest(lane, time.monotonic() - begun)
                        lane = None
                    yield ids
        finally:
            if lane is not None:
                self._rest(lane, time.monotonic() - begun if lane.come.is_set() else 0.0)

    def _rest(self, lane: Turn, seconds: float) -> None:
        rest = REST * seconds if self._turns.crowded(lane.client) else 0.0
        asyncio.get_running_loop().call_later(rest, self._long.leave, lane)
