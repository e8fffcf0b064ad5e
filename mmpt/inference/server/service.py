"""The engine in a thread of its own, between requests that come and go."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from mmpt.inference.adjusting import Likely
from mmpt.inference.engine import Engine, Prompt, Writing
from mmpt.inference.settings import Settings


class Busy(Exception):
    """No more requests are taken: as many run and wait as may."""


SWITCH = 0.0005
"""Seconds after which Python lets another thread go on: with its usual 0.005 the engine, which asks for its turn thousands of
times a second, waits for others' Python more than it works (16 clients on 2 cores: 597 → 763 tokens/s)."""


class Written(NamedTuple):
    """What a step has written: `ids`, and how likely each was, where the request asks for that."""

    ids: list[int]
    likely: list[Likely]


class _News(NamedTuple):
    """What a request is told of a step: what is new, whether there will be more, and why not, where the engine has failed."""

    new: Written
    finished: bool
    failure: Exception | None = None


@dataclass(eq=False)
class _Request:
    """What its client asked for, where its news go, and, once the engine knows of it, its sequence."""

    prompt: Prompt
    settings: Settings
    loop: asyncio.AbstractEventLoop
    queue: "asyncio.Queue[_News]"
    writing: Writing | None = None


class Service:
    """`writing` gives the ids of one request as they come; whoever leaves it frees the room at once."""

    def __init__(self, engine: Engine, waiting: int) -> None:
        self._engine, self._most = engine, engine.max_rows + waiting
        self._changed = threading.Condition()
        self._commands: list[Callable[[], None]] = []
        self._requests: dict[Writing, _Request] = {}
        self._taken, self._closed = 0, False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def taken(self) -> int:
        """Requests that wait or run."""
        return self._taken

    @property
    def full(self) -> bool:
        """Whether there is no room even to wait."""
        return self._taken >= self._most

    def fitted(self, prompt: Prompt, settings: Settings) -> Settings:
        """See `Engine.fitted`."""
        return self._engine.fitted(prompt, settings)

    def start(self) -> None:
        sys.setswitchinterval(SWITCH)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; what still runs gets nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @asynccontextmanager
    async def writing(self, prompt: Prompt, settings: Settings) -> AsyncIterator[AsyncIterator[Written]]:
        """Inside, an iterator over what each step has written. Raises `Busy` where there is no room even to wait."""
        if self.full:
            raise Busy
        self._taken += 1
        request = _Request(prompt, settings, asyncio.get_running_loop(), asyncio.Queue())
        try:
            self._send(lambda: self._submit(request))
            yield self._ids(request.queue)
        finally:
            # Commands run in their order: a client that goes at once is submitted first, then cancelled.
            self._taken -= 1
            self._send(lambda: self._cancel(request))

    async def _ids(self, queue: "asyncio.Queue[_News]") -> AsyncIterator[Written]:
        while True:
            news = await queue.get()
            if news.failure is not None:
                raise RuntimeError("the engine has failed") from news.failure
            if news.new.ids:
                yield news.new
            if news.finished:
                return

    def _send(self, command: Callable[[], None]) -> None:
        """Have the engine's thread do it between two steps: nobody else touches the engine."""
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._commands or self._engine.busy or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                commands, self._commands = self._commands, []
            try:
                for command in commands:
                    command()
                steps = self._engine.step() if self._engine.busy else []
            except Exception as failure:  # no request may wait for ever
                self._fail(failure)
                continue
            self._tell({writing: _News(_written(writing, ids), writing.finished) for writing, ids in steps})

    def _submit(self, request: _Request) -> None:
        request.writing = self._engine.submit(request.prompt, request.settings)
        self._requests[request.writing] = request

    def _cancel(self, request: _Request) -> None:
        if request.writing is None:  # the engine failed before it knew of it
            return
        if not request.writing.finished:
            self._engine.cancel(request.writing)
        self._requests.pop(request.writing, None)

    def _tell(self, news: dict[Writing, _News]) -> None:
        """Wake each loop once for all that is new."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[_News], _News]]] = {}
        for writing, told in news.items():
            if writing in self._requests:
                request = self._requests[writing]
                by_loop.setdefault(request.loop, []).append((request.queue, told))
        for loop, found in by_loop.items():
            loop.call_soon_threadsafe(_put, found)

    def _fail(self, failure: Exception) -> None:
        self._tell({writing: _News(Written([], []), True, failure) for writing in self._requests})
        for writing in self._requests:
            writing.finished = True
        self._requests.clear()
        self._engine.reset()


def _written(writing: Writing, ids: list[int]) -> Written:
    return Written(ids, writing.likely[len(writing.likely) - len(ids) :] if writing.likely else [])


def _put(found: "list[tuple[asyncio.Queue[_News], _News]]") -> None:
    for queue, news in found:
        queue.put_nowait(news)
