"""The engine's places, shared among clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mmpt.inference.engine import Prompt
from mmpt.inference.server.service import Service
from mmpt.inference.server.shares import CLIENT, Turns
from mmpt.inference.settings import Settings


class FairService:
    """A `Service` as its routes see it, in which each sequence waits for its client's turn."""

    def __init__(self, service: Service, turns: Turns) -> None:
        self._service, self._turns = service, turns

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
        with self._turns.turn(CLIENT.get()) as turn:

            async def ids() -> AsyncIterator[list[int]]:
                await turn.come.wait()
                async with self._service.writing(prompt, settings) as written:
                    async for found in written:
                        yield found

            found = ids()
            try:
                yield found
            finally:
                await found.aclose()
