"""`/v1/realtime`: OpenAI's realtime protocol over a websocket."""

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from mmpt.inference.server.errors import Refused, error
from mmpt.inference.server.realtime_session import RealtimeSession, name
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.shares import CLIENT

LOG = logging.getLogger("mmpt.serve")
KEY = "openai-insecure-api-key."
"""Before the token among the subprotocols, by which OpenAI lets browsers say it: they can send no header of their own."""
AHEAD = 256
"""Events that wait for a client that is slow to read."""
GOING, BAD = 1001, 1008
"""Codes of RFC 6455: the server goes, the client does not keep to the limits."""


def realtime_routes(serving: Serving) -> APIRouter:
    """The websocket."""
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        offered = [one.strip() for one in websocket.headers.get("sec-websocket-protocol", "").split(",")]
        try:
            serving.admit(_tokens(websocket, offered))
            serving.known(websocket.query_params.get("model"))
            client = CLIENT.get()
            if not serving.sessions.take(client):
                raise Refused(429, "too many sessions are open already", "rate_limit_exceeded")
        except Refused as problem:
            await websocket.send_denial_response(error(problem.status, str(problem), problem.code))
            return
        try:
            await websocket.accept("realtime" if "realtime" in offered else None)
            await _served(serving, websocket)
        finally:
            serving.sessions.give(client)

    return router


async def _served(serving: Serving, websocket: WebSocket) -> None:
    """The session, until either side ends it."""
    ahead: asyncio.Queue[dict[str, Any]] = asyncio.Queue(AHEAD)

    async def send(kind: str, **fields: Any) -> None:
        await ahead.put({"type": kind, "event_id": name("event"), **fields})

    session = RealtimeSession(serving, send)
    reading = asyncio.ensure_future(_read(serving, websocket, session))
    telling = asyncio.ensure_future(_tell(serving, websocket, ahead))
    try:
        await asyncio.wait({reading, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        await session.close()
        if websocket.client_state != WebSocketState.DISCONNECTED and not telling.done():
            # What was told last is still on its way.
            emptied = asyncio.ensure_future(ahead.join())
            await asyncio.wait({emptied, telling}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            emptied.cancel()
        telling.cancel()
        for ended in await asyncio.gather(reading, telling, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect | TimeoutError):
                LOG.error("%s: the session broke off", session.id, exc_info=ended)
        if websocket.client_state != WebSocketState.DISCONNECTED and websocket.application_state == WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):
                await websocket.close(BAD)


async def _read(serving: Serving, websocket: WebSocket, session: RealtimeSession) -> None:
    limits, ends = serving.limits, time.monotonic() + serving.limits.session
    await session.open()
    while True:
        left = ends - time.monotonic()
        try:
            async with asyncio.timeout(min(limits.idle, left)):
                message = await _message(websocket)
        except TimeoutError:
            reason = f"nothing was said for {limits.idle:g} s" if left > limits.idle else f"open for {limits.session:g} s"
            await session.error(f"the session ends: {reason}", "session_expired")
            return
        except Refused as problem:
            await session.error(str(problem), problem.code)
            if problem.status == 413:
                return
            continue
        await session.take(message)


async def _message(websocket: WebSocket) -> str | bytes:
    found = await websocket.receive()
    if found["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(found.get("code", GOING))
    return found.get("text") or found.get("bytes") or ""


async def _tell(serving: Serving, websocket: WebSocket, ahead: "asyncio.Queue[dict[str, Any]]") -> None:
    while True:
        event = await ahead.get()
        async with asyncio.timeout(serving.limits.arrival):
            await websocket.send_text(json.dumps(event, ensure_ascii=False))
        ahead.task_done()


def _tokens(websocket: WebSocket, offered: list[str]) -> list[str]:
    """What the client gives as `Authorization`, in headers or among its subprotocols."""
    keys = [f"Bearer {one.removeprefix(KEY)}" for one in offered if one.startswith(KEY)]
    return websocket.headers.getlist("authorization") or keys
