"""The end of the server: nothing new is taken, what runs may end, and at the latest after a while it is over."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from mmpt.inference.server.errors import error

LOG = logging.getLogger("mmpt.serve")
GRACE = 30.0
"""Seconds in which requests that run may end once the server is to stop."""
_LAST_WORDS = 2.0
"""Seconds in which what was cut off is told so."""
_ALWAYS = {"/health", "/metrics"}


class Closing:
    """Whether the server is to stop, what runs still, and the clocks of answers on their way."""

    def __init__(self) -> None:
        self.until: float | None = None
        """When the last answer is cut off, by `time.monotonic`; None: the server is not to stop."""
        self.running = 0
        self._clocks: set[asyncio.Timeout] = set()

    @property
    def begun(self) -> bool:
        return self.until is not None

    def begin(self, grace: float) -> None:
        """Take nothing new, and cut off in `grace` seconds what has not ended by then. On the server's loop."""
        self.until = time.monotonic() + grace
        for clock in self._clocks:
            when = clock.when()
            clock.reschedule(self.until if when is None else min(when, self.until))

    @asynccontextmanager
    async def clock(self, until: float) -> AsyncIterator[None]:
        """Raises `TimeoutError` at `until`, by `time.monotonic`, or where the server stops before that."""
        end = until if self.until is None else min(until, self.until)
        async with asyncio.timeout(end - time.monotonic()) as clock:
            self._clocks.add(clock)
            try:
                yield
            finally:
                self._clocks.discard(clock)

    @property
    def over(self) -> bool:
        """Whether nothing runs, or has had its time."""
        return self.until is not None and (not self.running or time.monotonic() > self.until + _LAST_WORDS)


class Door:
    """Counts the requests that run, and turns new ones away with 503 once the server is to stop."""

    def __init__(self, app: ASGIApp, closing: Closing) -> None:
        self._app, self._closing = app, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._closing.begun:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1001, "reason": "the server is stopping"})
            else:
                await stopping()(scope, receive, send)
            return
        self._closing.running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._closing.running -= 1


def stopping():
    """What a request is answered that comes too late, or was cut off."""
    return error(503, "the server is stopping, try again later", "server_stopping", {"Retry-After": str(round(GRACE))})


class Server(uvicorn.Server):
    """Stops at SIGTERM and SIGINT as `Closing` says, and ends with exit code 0; at a second one at once."""

    def __init__(self, config: uvicorn.Config, closing: Closing, grace: float = GRACE) -> None:
        super().__init__(config)
        self._closing, self._grace = closing, grace

    def handle_exit(self, sig: int, frame: object) -> None:
        """See `uvicorn.Server`; its own closes the door at once, and ends by the signal."""
        if self._closing.begun:
            self.should_exit = self.force_exit = True
            return
        LOG.warning("%s: stopping; what runs has %g s", signal.Signals(sig).name, self._grace)
        # A signal comes between any two steps of Python: what answers run in is touched by the loop alone.
        asyncio.get_running_loop().call_soon_threadsafe(self._closing.begin, self._grace)

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`: asked ten times a second whether it is over."""
        return await super().on_tick(counter) or self._closing.over


def serve(app: ASGIApp, host: str, port: int, closing: Closing, options: dict[str, Any], grace: float = GRACE) -> None:
    """Serve until SIGTERM or SIGINT, and to the end of what runs then, at most `grace` seconds. `options`: of uvicorn."""
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_keep_alive=20, **options)
    config.timeout_graceful_shutdown = round(_LAST_WORDS)
    Server(config, closing, grace).run()
