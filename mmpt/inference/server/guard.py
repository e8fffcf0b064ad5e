"""What every request passes before its route: who asks, from where, and how much of a body in how much time."""

import asyncio
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from mmpt.inference.server.errors import Refused, error
from mmpt.inference.server.hosts import stranger
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.shares import CLIENT, Held, Share, client_of

LEFT = 4 << 20
"""Bytes of a refused body that are still read, so that its client reads the answer; with more to come the connection ends."""


class Guard:
    """Refuses strangers (see `stranger`), and bodies and messages of websockets beyond `limits`, whichever route they go to. What
    is found while they are read is `Refused` in the route that reads them. `held`: bytes that clients have here."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Sequence[str], held: Share) -> None:
        self._app, self._limits, self._hosts, self._held = app, limits, hosts, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        CLIENT.set(client_of(scope["client"][0] if scope["client"] else ""))
        problem = stranger(headers, self._hosts)
        if problem:
            answer = error(403 if "origin" in headers and "origin" in problem else 400, problem)
            if scope["type"] == "websocket":
                return await WebSocket(scope, receive, send).send_denial_response(answer)
            return await answer(scope, receive, send)
        if scope["type"] == "websocket":
            messages = _Messages(receive, self._limits, Held(self._held, CLIENT.get()))
            try:
                return await self._app(scope, messages.receive, send)
            finally:
                messages.forget()
        if "content-length" in headers and "transfer-encoding" in headers:
            # Whoever stands in front may have gone by the one, this server goes by the other: request smuggling.
            reason = "a length and a transfer encoding: expected one of them"
            return await error(400, reason, headers={"Connection": "close"})(scope, receive, send)
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limits.body:
            reason = f"a body of {declared[:20]} bytes, at most {self._limits.body} are taken"
            more = {"Connection": "close"} if len(declared) > 15 or int(declared) > LEFT else {}
            return await error(413, reason, headers=more)(scope, receive, send)
        if headers.get("content-encoding", "identity").lower() != "identity":
            return await error(415, "a compressed body: expected it as it is")(scope, receive, send)
        body = _Body(receive, self._limits, Held(self._held, CLIENT.get()), headers)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and body.left > LEFT:  # refused: the rest is not even thrown away
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, body.receive, told)
        finally:
            body.forget()


def values(json: bytes | str) -> int:
    """Signs of values in it. Seen before it is parsed: each becomes an object many times its size. Base64 has none of them."""
    if isinstance(json, str):
        return sum(map(json.count, ",[{"))
    return sum(map(json.count, (b",", b"[", b"{")))


class _Messages:
    """The messages of one websocket, each held until the next is asked for."""

    def __init__(self, receive: Receive, limits: Limits, held: Held) -> None:
        self._receive, self._limits, self._held = receive, limits, held

    async def receive(self) -> Message:
        self.forget()
        message = await self._receive()
        said = message.get("text") or message.get("bytes") or ""
        size = len(said) if isinstance(said, bytes) or said.isascii() else len(said.encode(errors="replace"))
        if size > self._limits.message:
            raise Refused(413, f"a message of {size} bytes, at most {self._limits.message} are taken", "message_too_large")
        if values(said) > self._limits.values:
            raise Refused(400, f"more than {self._limits.values} values in the message")
        if not self._held.be(size):
            raise Refused(429, "too much at once, try again later", "rate_limit_exceeded")
        return message

    def forget(self) -> None:
        """The last is not held any more."""
        self._held.be(0)


class _Body:
    """The body of one request, counted as it comes."""

    def __init__(self, receive: Receive, limits: Limits, held: Held, headers: Headers) -> None:
        self._receive, self._limits, self._held = receive, limits, held
        self._json, self._values = headers.get("content-type", "").lower().startswith("application/json"), 0
        declared = headers.get("content-length", "0")
        self._declared = limits.body if "transfer-encoding" in headers or not declared.isdecimal() else int(declared)
        self._size, self._whole = 0, False
        self._until = time.monotonic() + limits.arrival

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._limits.arrival:g} s") from None
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        part = message.get("body", b"")
        came = len(part)
        if self._json:
            self._values += values(part)
            if self._values > self._limits.values:
                raise Refused(400, f"more than {self._limits.values} values in the body")
        if self._size + came > self._limits.body:
            raise Refused(413, f"a body of more than {self._limits.body} bytes, at most {self._limits.body} are taken")
        if not self._held.be(self._size + came):
            raise Refused(429, "too many bodies at once, try again later", "rate_limit_exceeded")
        self._size += came
        return message

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return 0 if self._whole else self._declared - self._size

    def forget(self) -> None:
        """It is not held any more."""
        self._held.be(0)
