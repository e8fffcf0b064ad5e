"""Between requests that come and go and what writes their answers."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from mmpt.inference.adjusting import Likely
from mmpt.inference.engine import Engine, Held, Prompt
from mmpt.inference.server.writers import Cancel, EngineThread, News, Submit, Writer
from mmpt.inference.settings import Settings


class Busy(Exception):
    """No more requests are taken: as many run and wait as may."""


class Written(NamedTuple):
    """What is told of an answer: new `ids`, and how likely each was, where the request asks for that; with the first of them,
    how many tokens of the prompt did not have to be read."""

    ids: list[int]
    likely: list[Likely]
    reused: int = 0


class Keys(NamedTuple):
    """What the keys and values take, in tokens, and tokens of all prompts so far that were `reused`."""

    held: Held
    reused: int


@dataclass(eq=False)
class _Request:
    """Where its news go; `finished`: whether the last of them has come."""

    loop: asyncio.AbstractEventLoop
    queue: "asyncio.Queue[News]"
    finished: bool = False


class Service:
    """`writing` gives the ids of one request as they come; whoever leaves it frees the room at once."""

    def __init__(self, engine: Engine, waiting: int, writer: Writer | None = None) -> None:
        """`engine`: knows what fits; it writes too, in a thread, if there is no other `writer`."""
        self._engine, self._most = engine, engine.max_rows + waiting
        self._writer = writer or EngineThread(engine)
        self._numbers = itertools.count()
        self._requests: dict[int, _Request] = {}
        self.keys = Keys(Held(0, 0), 0)

    @property
    def taken(self) -> int:
        """Requests that wait or run."""
        return len(self._requests)

    @property
    def full(self) -> bool:
        """Whether there is no room even to wait."""
        return self.taken >= self._most

    def fitted(self, prompt: Prompt, settings: Settings) -> Settings:
        """See `Engine.fitted`."""
        return self._engine.fitted(prompt, settings)

    def start(self) -> None:
        self._writer.start(self._tell, self._lost)

    def close(self) -> None:
        """What still runs gets nothing more."""
        self._writer.close()

    @asynccontextmanager
    async def writing(self, prompt: Prompt, settings: Settings) -> AsyncIterator[AsyncIterator[Written]]:
        """Inside, an iterator over what each step has written. Raises `Busy` where there is no room even to wait."""
        if self.full:
            raise Busy
        number, queue = next(self._numbers), asyncio.Queue[News]()
        self._requests[number] = request = _Request(asyncio.get_running_loop(), queue)
        try:
            self._writer.send(Submit(number, prompt, settings))
            yield _ids(queue)
        finally:
            # Commands are obeyed in their order: a client that goes at once is submitted first, then cancelled.
            del self._requests[number]
            if not request.finished:
                self._writer.send(Cancel(number))

    def _tell(self, news: Sequence[News | Held]) -> None:
        """Wake each loop once for all that is new."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[News], News]]] = {}
        for told in news:
            if isinstance(told, Held):
                self.keys = self.keys._replace(held=told)
                continue
            self.keys = self.keys._replace(reused=self.keys.reused + told.reused)
            if (request := self._requests.get(told.number)) is not None:
                request.finished |= told.finished
                by_loop.setdefault(request.loop, []).append((request.queue, told))
        for loop, found in by_loop.items():
            loop.call_soon_threadsafe(_put, found)

    def _lost(self) -> None:
        self._tell([News(number, [], [], True, "what wrote it has died") for number in list(self._requests)])


async def _ids(queue: "asyncio.Queue[News]") -> AsyncIterator[Written]:
    while True:
        news = await queue.get()
        if news.failure:
            raise RuntimeError(f"the answer could not be written: {news.failure}")
        if news.ids:
            yield Written(news.ids, news.likely, news.reused)
        if news.finished:
            return


def _put(found: "list[tuple[asyncio.Queue[News], News]]") -> None:
    for queue, news in found:
        queue.put_nowait(news)
