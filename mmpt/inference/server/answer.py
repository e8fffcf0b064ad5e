"""One answer on its way: its events as they come, its end, and how it is sent."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from mmpt.inference.engine import Prompt
from mmpt.inference.events import Assembler, Event
from mmpt.inference.server.errors import error
from mmpt.inference.server.messages import deltas, message
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.settings import Settings

LOG = logging.getLogger("mmpt.serve")
GRACE = 10.0
"""Seconds in which a client may read the end of an answer that was cut off for its time."""


class Answer:
    """What has been written so far of one answer."""

    def __init__(self, name: str, model: str, prompt: Prompt, settings: Settings) -> None:
        self.id, self.model, self.prompt_tokens, self.created = name, model, len(prompt.ids), int(time.time())
        self._most, self._cut, self._stopped = settings.max_new_tokens, False, False
        self.ids: list[int] = []
        self.events: list[Event] = []

    def cut(self) -> None:
        """It ends here, for want of time."""
        self._cut = True

    def stop(self) -> None:
        """It ends here, at a stop word."""
        self._stopped = True

    @property
    def reason(self) -> str:
        if self._stopped:
            return "stop"
        # The last of `max_new_tokens` is always the end.
        return "length" if self._cut or len(self.ids) + 1 >= self._most else "stop"

    def json(self, kind: str, choice: dict, **more) -> dict:
        found = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return found | {"choices": [{"index": 0, **choice}], **more}

    @property
    def usage(self) -> dict:
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": len(self.ids)}
        return counts | {"total_tokens": sum(counts.values())}


async def answering(
    serving: Serving, written: AsyncIterator[list[int]], stop: StopWords, until: float, answer: Answer
) -> AsyncIterator[list[Event]]:
    """The events of each step, up to a stop word; after `until` the answer is cut off where it stands. One that comes to its end
    is kept."""
    assembler = Assembler(serving.model.tokenizer, decode=serving.decode)
    try:
        while True:
            async with asyncio.timeout(until - time.monotonic()):
                ids = await anext(written, None)
            if ids is None:
                break
            answer.ids += ids
            if assembler.heavy(ids):
                found = await serving.decoded(lambda ids=ids: list(assembler.push(ids)))
            else:
                found = list(assembler.push(ids))
            found = stop(found)
            answer.events += found
            if stop.found:
                answer.stop()
                serving.kept.keep(f"audio-{answer.id}", answer.events)
                yield found
                return
            yield found
    except TimeoutError:
        answer.cut()
        return
    found = stop(await serving.decoded(lambda: list(assembler.finish())))
    if stop.found:
        answer.stop()
    answer.events += found
    serving.kept.keep(f"audio-{answer.id}", answer.events)
    yield found


class Stream(StreamingResponse):
    """Server-sent events; however they end (all sent, client gone, client too slow), `stack` is left."""

    def __init__(self, lines: AsyncIterator[str], stack: AsyncExitStack, until: float) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._stack, self._until = stack, until

    async def __call__(self, scope, receive, send) -> None:
        try:
            async with asyncio.timeout(self._until + GRACE - time.monotonic()):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            LOG.warning("a client took longer than its time to read its answer")
        finally:
            await self._stack.aclose()


async def lines(events: AsyncIterator[list[Event]], answer: Answer, usage: bool) -> AsyncIterator[str]:
    """A streamed answer as server-sent events; with `usage` a last one of it alone."""
    kind = "chat.completion.chunk"

    def line(content: dict) -> str:
        return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"

    try:
        yield line(answer.json(kind, {"delta": {"role": "assistant"}, "finish_reason": None}))
        async for found in events:
            for delta in deltas(found, answer.id):
                yield line(answer.json(kind, {"delta": delta, "finish_reason": None}))
        yield line(answer.json(kind, {"delta": {}, "finish_reason": answer.reason}, usage=answer.usage))
        if usage:
            yield line(answer.json(kind, {}, usage=answer.usage) | {"choices": []})
    except Exception:
        LOG.exception("%s: the answer could not be written", answer.id)
        yield line({"error": {"message": "the answer could not be written", "type": "server_error"}})
    yield "data: [DONE]\n\n"


async def whole(request: Request, events: AsyncIterator[list[Event]], answer: Answer) -> Response:
    """The answer once it is whole; where its client goes before, it is given up."""
    writing = asyncio.ensure_future(_drained(events))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return Response(status_code=499)
        writing.result()
    except Exception:
        LOG.exception("%s: the answer could not be written", answer.id)
        return error(500, "the answer could not be written")
    finally:
        for task in (writing, leaving):
            task.cancel()
        await asyncio.gather(writing, leaving, return_exceptions=True)
    choice = {"message": message(answer.events, answer.id), "finish_reason": answer.reason}
    return JSONResponse(answer.json("chat.completion", choice, usage=answer.usage))


async def _drained(events: AsyncIterator[list[Event]]) -> None:
    async for _ in events:
        pass


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
