"""The engine in a thread of its own, between requests that come and go."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mmpt.inference.engine import Engine, Prompt, Writing
from mmpt.inference.settings import Settings


class Busy(Exception):
    """As many requests wait as may."""


SWITCH = 0.0005
"""Seconds after which Python lets another thread go on: with its usual 0.005 the engine, which asks for its turn thousands of
times a second, waits for others' Python more than it works (16 clients on 2 cores: 597 → 763 tokens/s)."""


class Service:
    """`writing` gives the ids of one request as they come; whoever leaves it frees the room at once."""

    def __init__(self, engine: Engine, waiting: int) -> None:
        self._engine, self._most = engine, engine.max_rows + waiting
        self._changed = threading.Condition()
        self._commands: list[tuple] = []
        self._queues: dict[Writing, tuple[asyncio.AbstractEventLoop, asyncio.Queue]] = {}
        self._taken, self._closed, self._failure = 0, False, None
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
    async def writing(self, prompt: Prompt, settings: Settings) -> AsyncIterator[AsyncIterator[list[int]]]:
        """Inside, an iterator over the ids of each step. Raises `Busy` where there is no room even to wait."""
        if self.full:
            raise Busy
        self._taken += 1
        queue: asyncio.Queue = asyncio.Queue()
        box: list[Writing] = []
        try:
            self._send("submit", (prompt, settings, asyncio.get_running_loop(), queue, box))
            yield self._ids(queue)
        finally:
            self._taken -= 1
            self._send("cancel", (box,))

    async def _ids(self, queue: asyncio.Queue) -> AsyncIterator[list[int]]:
        while True:
            ids, finished, failure = await queue.get()
            if failure is not None:
                raise RuntimeError("the engine has failed") from failure
            if ids:
                yield ids
            if finished:
                return

    def _send(self, name: str, arguments: tuple) -> None:
        with self._changed:
            self._commands.append((name, arguments))
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
                for name, arguments in commands:
                    getattr(self, f"_{name}")(*arguments)
                steps = self._engine.step() if self._engine.busy else []
            except Exception as failure:  # no request may wait for ever
                self._fail(failure)
                continue
            self._tell([(writing, ids, writing.finished, None) for writing, ids in steps])

    def _submit(self, prompt: Prompt, settings: Settings, loop, queue: asyncio.Queue, box: list[Writing]) -> None:
        writing = self._engine.submit(prompt, settings)
        box.append(writing)
        self._queues[writing] = (loop, queue)

    def _cancel(self, box: list[Writing]) -> None:
        for writing in box:
            if not writing.finished:
                self._engine.cancel(writing)
            self._queues.pop(writing, None)

    def _tell(self, news: list[tuple[Writing, list[int], bool, Exception | None]]) -> None:
        """Wake each loop once for all that is new."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue, tuple]]] = {}
        for writing, *told in news:
            if writing in self._queues:
                loop, queue = self._queues[writing]
                by_loop.setdefault(loop, []).append((queue, tuple(told)))
        for loop, found in by_loop.items():
            loop.call_soon_threadsafe(_put, found)

    def _fail(self, failure: Exception) -> None:
        self._tell([(writing, [], True, failure) for writing in self._queues])
        for writing in self._queues:
            writing.finished = True
        self._queues.clear()
        self._engine.reset()


def _put(found: list[tuple[asyncio.Queue, tuple]]) -> None:
    for queue, told in found:
        queue.put_nowait(told)
