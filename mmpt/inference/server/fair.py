"""The engine's places and its time, shared among clients."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from mmpt.inference.engine import Prompt
from mmpt.inference.server.service import Service, Written
from mmpt.inference.server.shares import CLIENT, Turn, Turns
from mmpt.inference.settings import Settings

NOTICED, LONG = 64, 1024
"""Tokens of a prompt from which on others notice it, since all that are being answered wait while it is read; and from which on
they would notice two."""
REST = 3.0
"""After such a prompt, and after a body or media were read, its client's next wait so many times the seconds that it took, while
other clients are there; after a long prompt anyone's next long one does."""
PACE = 0.0005
"""Seconds that a token of a prompt takes, until one has been seen: who leaves before it is read has cost as much."""


class FairService:
    """A `Service` as its routes see it, in which each sequence waits for its client's turn, and prompts leave the engine time
    for those who are being answered."""

    def __init__(self, service: Service, turns: Turns, waiting: int) -> None:
        self._service, self._turns, self._waiting = service, turns, waiting
        self._long, self._own, self._pace = Turns(1, waiting), dict[str, Turns](), PACE

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

    @property
    def crowded(self) -> bool:
        """Whether there are others than who asks."""
        return self._turns.crowded(CLIENT.get())

    def rest(self, client: str, spent: float) -> float:
        """Seconds in which others go first, after work for the client that took some."""
        return REST * spent if self._turns.crowded(client) else 0.0

    @asynccontextmanager
    async def writing(self, prompt: Prompt, settings: Settings) -> AsyncIterator[AsyncIterator[Written]]:
        """Inside, an iterator over what each step has written. Raises `Busy` where there is no room even to wait."""
        client = CLIENT.get()
        with self._turns.turn(client) as turn:
            found = self._written(prompt, settings, client, turn.come)
            try:
                yield found
            finally:
                await found.aclose()

    async def _written(self, prompt: Prompt, settings: Settings, client: str, come: asyncio.Event) -> AsyncGenerator[Written]:
        await come.wait()
        lanes, begun = self._lanes(client, len(prompt.ids)), None
        held: list[tuple[Turns, Turn]] = []
        try:
            for lane in lanes:
                held.append((lane, lane.enter(client)))
                await held[-1][1].come.wait()
            begun = time.monotonic()
            async with self._service.writing(replace(prompt, client=client), settings) as written:
                async for new in written:
                    if held:
                        read = len(prompt.ids) - new.reused
                        self._pace = (time.monotonic() - begun) / read
                        self._leave(held, read)
                    yield new
        finally:
            self._leave(held, 0 if begun is None else len(prompt.ids))

    def _lanes(self, client: str, tokens: int) -> list[Turns]:
        """What a prompt of so many tokens waits for."""
        if tokens <= NOTICED:
            return []
        own = self._own.setdefault(client, Turns(1, self._waiting))
        return [own, self._long] if tokens > LONG else [own]

    def _leave(self, held: list[tuple[Turns, Turn]], tokens: int) -> None:
        """What waits behind a prompt of so many tokens goes on, after a rest where there are others."""
        while held:
            lane, turn = held.pop()
            asyncio.get_running_loop().call_later(self.rest(turn.client, tokens * self._pace), self._free, lane, turn)

    def _free(self, lane: Turns, turn: Turn) -> None:
        lane.leave(turn)
        if lane is self._own.get(turn.client) and not lane.taken:
            del self._own[turn.client]
