"""Where the engine runs: in a thread of the server, or in a process beside it. Both take commands and tell news."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import torch

from mmpt.errors import DataError
from mmpt.inference.adjusting import Likely
from mmpt.inference.beside import Beside, Loop, received
from mmpt.inference.engine import Engine, Held, Prompt, Writing
from mmpt.inference.load import load_engine
from mmpt.inference.settings import Settings

LOG = logging.getLogger("mmpt.serve")
TOLD = 0.025
"""Seconds at least between two news of one sequence, its first token and its end excepted: what is told of each token is work for
the server and for its client, and nobody sees the difference."""
YIELDING = 5
"""How far the engine's process stands back on a CPU. What decodes and tells answers then ends them sooner, their clients are back
sooner, and each step of the engine, which costs little more for many than for one, is for more of them."""


class Submit(NamedTuple):
    """Write what follows `prompt`; news of it bear `number`."""

    number: int
    prompt: Prompt
    settings: Settings


class Cancel(NamedTuple):
    """Nobody wants more of it."""

    number: int


Command = Submit | Cancel


class News(NamedTuple):
    """Of sequence `number`: new `ids`, how `likely` each was where that is asked for, whether there will be more, and where it
    has failed, why. `reused`: tokens of its prompt that did not have to be read, told once."""

    number: int
    ids: list[int]
    likely: list[Likely]
    finished: bool
    failure: str = ""
    reused: int = 0


Tell = Callable[[Sequence[News | Held]], None]


class Writer(Protocol):
    """What writes sequences."""

    def start(self, tell: Tell, lost: Callable[[], None]) -> None:
        """`tell` is called from another thread; `lost` where all that is being written is lost."""
        ...

    def send(self, command: Command) -> None:
        """Commands are obeyed in their order."""
        ...

    def close(self) -> None:
        """What is still being written gets nothing more."""
        ...


def write(engine: Engine, commands: Callable[[bool], Sequence[Command] | None], tell: Tell) -> None:
    """Obey `commands` and write, until they are None. `commands(True)` waits until there are some."""
    running: dict[int, Writing] = {}
    told: dict[int, tuple[int, float]] = {}  # how many ids, and when
    held = Held(0, 0)
    while (found := commands(not engine.busy)) is not None:
        news: list[News | Held] = []
        for command in found:
            if isinstance(command, Submit):
                try:
                    running[command.number] = engine.submit(command.prompt, command.settings)
                    told[command.number] = 0, 0.0
                except DataError as problem:
                    news.append(News(command.number, [], [], True, str(problem)))
            elif (writing := running.pop(command.number, None)) is not None:
                engine.cancel(writing)
                del told[command.number]
        try:
            if engine.busy:
                engine.step()
        except Exception as failure:  # no request may wait for ever
            LOG.exception("the engine has failed")
            tell([News(number, [], [], True, repr(failure)) for number in running])
            running.clear()
            told.clear()
            engine.reset()
        now = time.monotonic()
        for number, writing in list(running.items()):
            count, when = told[number]
            if writing.finished or (len(writing.ids) > count and now - when >= TOLD):
                reused = 0 if count else writing.reused
                news.append(News(number, writing.ids[count:], writing.likely[count:], writing.finished, reused=reused))
                told[number] = len(writing.ids), now
                if writing.finished:
                    del running[number], told[number]
        if (news or not engine.busy) and engine.held != held:
            held = engine.held
            news.append(held)
        if news:
            tell(news)


class EngineThread:
    """The engine in a thread of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed, self._commands, self._closed = threading.Condition(), list[Command](), False

    def start(self, tell: Tell, lost: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=write, args=(self._engine, self._taken, tell), name="engine", daemon=True)
        self._thread.start()

    def send(self, command: Command) -> None:
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _taken(self, wait: bool) -> list[Command] | None:
        with self._changed:
            while wait and not (self._commands or self._closed):
                self._changed.wait()
            found, self._commands = self._commands, []
            return None if self._closed else found


class EngineProcess:
    """The engine in a process beside this one, which loads the checkpoint itself: the server's Python takes no turn of the
    engine's. Where it dies, all that it was writing is lost, and it is replaced; where that fails, the server ends. Use it in a
    `with`."""

    def __init__(self, checkpoint: str, **options: Any) -> None:
        """`options`: of `load_engine`."""
        self._beside = Beside(
            _begin,
            (checkpoint, options),
            lambda news: self._tell(news),
            lambda: self._lost(),
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        self._tell: Tell = lambda news: None
        self._lost: Callable[[], None] = lambda: None

    def __enter__(self) -> "EngineProcess":
        self._beside.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()

    @property
    def pid(self) -> int:
        """Of the process as it is now."""
        return self._beside.pid

    def start(self, tell: Tell, lost: Callable[[], None]) -> None:
        self._tell, self._lost = tell, lost

    def send(self, command: Command) -> None:
        if isinstance(command, Submit):  # as arrays: a tensor would travel as shared memory
            media = tuple((kind, places, value.numpy()) for kind, places, value in command.prompt.media)
            command = command._replace(prompt=replace(command.prompt, media=media))
        self._beside.send(command)
        if self._beside.gone:
            self._lost()

    def close(self) -> None:
        """Whoever entered it leaves it."""


def _begin(checkpoint: str, options: dict[str, Any]) -> Loop:
    engine = load_engine(checkpoint, **options)
    if engine.model.device.type == "cpu":
        os.nice(YIELDING)

    def loop(connection: Connection) -> None:
        def commands(wait: bool) -> list[Command]:
            found = []
            while connection.poll(None if wait and not found else 0):
                found.append(_with_tensors(received(connection)))
            return found

        write(engine, commands, connection.send)

    return loop


def _with_tensors(command: Command) -> Command:
    if isinstance(command, Submit) and command.prompt.media:
        media = tuple((kind, places, torch.from_numpy(value)) for kind, places, value in command.prompt.media)
        return command._replace(prompt=replace(command.prompt, media=media))
    return command
