"""A process beside this one, spoken to over a pipe: what it does takes no turn of this one's Python."""

import gc
import logging
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from mmpt import errors
from mmpt.errors import MmptError

LOG = logging.getLogger("mmpt.serve")
PATIENCE = 5.0
"""Seconds that a process has to end by itself."""

Loop = Callable[[Connection], None]
"""Takes messages by `received` until that raises `EOFError`, and answers."""


class Beside:
    """Runs `begin(*arguments)`, which gives a `Loop`, in a process of its own. `heard` is called with each of its messages,
    `lost` where it has died with what it had been sent; both by a thread. It is then replaced; where that fails, `failed` is
    called."""

    def __init__(
        self,
        begin: Callable[..., Loop],
        arguments: tuple,
        heard: Callable[[Any], None],
        lost: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin, self._arguments = begin, arguments
        self._heard, self._lost, self._failed = heard, lost, failed
        self._messages, self._ready, self._closed = SimpleQueue[Any](), Event(), False
        self.gone = False
        """Whether it has died and cannot be replaced: nothing is answered any more."""

    def start(self) -> None:
        """Wait until it is ready. Raises the `MmptError` that it met as it began."""
        self._connection = self._started()
        self._ready.set()
        self._threads = [Thread(target=run, name="beside", daemon=True) for run in (self._listen, self._speak)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the process as it is now."""
        return self._process.pid or 0

    def send(self, message: Any) -> None:
        """To the process, or to its successor where it is just being replaced; never waits."""
        self._messages.put(message)

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._messages.put(None)
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _speak(self) -> None:
        # In a thread of its own: a large message to a process that is at work waits until it is read.
        while True:
            message = self._messages.get()
            self._ready.wait()
            with suppress(OSError):  # it has died: whoever listens is about to notice
                self._connection.send(message)
            if message is None:
                return

    def _started(self) -> Connection:
        # Spawned, not forked: a fork would copy the locks of this process's threads as they stand.
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_run, args=(there, self._begin, self._arguments), daemon=True)
        self._process.start()
        there.close()
        try:
            said = here.recv()
        except EOFError:
            self._process.join()
            raise MmptError(f"a process beside this one ended as it began (exit code {self._process.exitcode})") from None
        if said is not None:
            kind, reason = said
            raise getattr(errors, kind, MmptError)(reason)
        return here

    def _listen(self) -> None:
        while True:
            try:
                while True:
                    self._heard(self._connection.recv())
            except (EOFError, OSError):
                pass
            if self._closed:
                return
            self._ready.clear()  # from here on messages wait for the successor; what was sent before is lost
            self._process.join(PATIENCE)
            LOG.error("a process beside the server has died (exit code %s) and is replaced", self._process.exitcode)
            self._lost()
            try:
                self._connection = self._started()
            except MmptError as problem:
                LOG.error("it cannot be replaced: %s", problem)
                self.gone = True
                self._failed()
                return
            self._ready.set()


def settled() -> None:
    """What is here now stays: the garbage collector need not look at it again, which takes 0.3 s each time."""
    gc.collect()
    gc.freeze()


def received(connection: Connection) -> Any:
    """The next message. Raises `EOFError` where there will be none."""
    message = connection.recv()
    if message is None:
        raise EOFError
    return message


def _run(connection: Connection, begin: Callable[..., Loop], arguments: tuple) -> None:
    # A terminal and systemd send them to all processes; the server ends this one itself once its answers are given.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        loop = begin(*arguments)
    except MmptError as problem:
        connection.send((type(problem).__name__, str(problem)))
        return
    settled()
    connection.send(None)
    with suppress(EOFError, OSError):  # the server is gone, or wants this to end
        loop(connection)
