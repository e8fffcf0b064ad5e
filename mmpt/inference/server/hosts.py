"""Under which host names a browser may have reached the server."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from mmpt.inference.server.errors import error

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


class Hosts:
    """Refuses requests under a host name other than `allowed` ("*": any)."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or "*" in self._allowed or _host(scope) in self._allowed:
            await self._app(scope, receive, send)
        else:
            await error(400, f"{_host(scope)!r}: this server does not answer to that host name")(scope, receive, send)


def _host(scope: Scope) -> str:
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name, _, port = given.rpartition(":")
    return name if port.isdecimal() else given
