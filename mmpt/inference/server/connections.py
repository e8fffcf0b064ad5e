"""Connections that do nothing are closed, and no client has all of them: what is decided before there is a request.

uvicorn waits for ever for a request's head, and for a client that does not read; a proxy in front of it would not, but the server
stands without one too.
"""

import asyncio
import socket
import struct
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmpt.inference.server.limits import Limits
from mmpt.inference.server.shares import Share, client_of

OTHERS = 256
"""Files that the process may need beside its connections."""
SLOWEST = 64 << 10
"""Bytes a second with which a client reads what is sent to it, beyond `Limits.stalled`."""


def options(limits: Limits) -> dict[str, Any]:
    """Of uvicorn: its connections, and what of a websocket waits to be read. What is compressed may be many times its size."""
    most = 2 * limits.message  # beyond `message` the session is told so; beyond this its connection ends
    return {"http": guarded(limits), "ws_max_size": most, "ws_max_queue": 2, "ws_per_message_deflate": False}


def guarded(limits: Limits) -> type[H11Protocol]:
    """The class of the connections of one server, as uvicorn's `http` takes it."""
    most = min(limits.connections, _files(limits.connections + OTHERS) - OTHERS)
    open_now, upgraded = Share(max(most, 2)), list[tuple[asyncio.Transport, str]]()

    class Guarded(H11Protocol):
        """A connection on which a request begins within `limits.head` seconds, and an answer is read within
        `limits.stalled`."""

        _counted = False
        _idle: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().connection_made(transport)
            self._who = client_of(self.client[0] if self.client else "")
            for old in [old for old in upgraded if old[0].is_closing()]:
                upgraded.remove(old)
                open_now.give(old[1])
            self._counted = open_now.take(self._who)
            if self._counted:
                self._look()
            else:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._unread is not None:
                self._unread.cancel()
            if self._counted:
                self._counted = False
                open_now.give(self._who)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._stop()
            upgraded.append((self.transport, self._who))  # from now on another class is told of its end
            super().handle_websocket_upgrade(event)

        def pause_writing(self) -> None:
            super().pause_writing()
            seconds = limits.stalled + self.transport.get_write_buffer_size() / SLOWEST
            self._unread = self.loop.call_later(seconds, self._reset)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._unread is not None:
                self._unread.cancel()

        def _look(self) -> None:
            """Between two requests, the next is there in time or the connection is closed; a byte now and then is no request."""
            if self.transport.get_protocol() is not self or (self.cycle is not None and not self.cycle.response_complete):
                self._stop()
            elif self._idle is None:
                self._idle = self.loop.call_later(limits.head, self._close)

        def _close(self) -> None:
            if self.transport.get_write_buffer_size():
                self._reset()
            else:
                self.transport.close()

        def _reset(self) -> None:
            """End it with what its client has not read, in the kernel's buffers too."""
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

        def _stop(self) -> None:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None

    return Guarded


def _files(wanted: int) -> int:
    """How many files this process may have open, more than by default where `wanted` are more."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
