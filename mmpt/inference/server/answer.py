"""One answer on its way: its events as they come, and its end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from mmpt.document import Text
from mmpt.inference.adjusting import Likely
from mmpt.inference.engine import Prompt
from mmpt.inference.events import Assembler, AudioDelta, Event, PartDone
from mmpt.inference.server.closing import stopping
from mmpt.inference.server.errors import Refused, error
from mmpt.inference.server.service import Busy, Written
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.server.tokens import Counts, counted
from mmpt.inference.settings import Settings

LOG = logging.getLogger("mmpt.serve")
GRACE = 10.0
"""Seconds in which a client may read the end of an answer that was cut off for its time."""


class Stopping(Exception):
    """The server stops, and the answer is not whole."""


class Answer:
    """What has been written so far of one answer, number `index` to its request; `likely` of its ids as far as asked for."""

    def __init__(self, serving: Serving, name: str, prompt: Prompt, settings: Settings, index: int = 0) -> None:
        self.name, self.index = (f"{name}-{index}" if index else name), index
        self.prompt = counted(serving.model.tokenizer.vocabulary, prompt.ids)
        self._vocabulary, self._most = serving.model.tokenizer.vocabulary, settings.max_new_tokens
        self._cut = self._stopped = False
        self.alternate = serving.model.tokenizer.alternate(settings.alternate)
        self.ids: list[int] = []
        self.likely: list[Likely] = []
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

    @property
    def has_media(self) -> bool:
        """Whether anything but text is in it."""
        return any(isinstance(event, PartDone) and not isinstance(event.content, Text) for event in self.events)

    def blocks(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Of the ids of a sound its whole blocks, since it may have been broken off in one, and how many these are."""
        closing = self._vocabulary.special("<|/speech|>")
        ends = [place + 1 for place, token in enumerate(ids) if token == closing]
        return list(ids[: ends[-1] if ends else 0]), len(ends)

    @property
    def written(self) -> Counts:
        """How many tokens of which modality."""
        return counted(self._vocabulary, self.ids)


async def answering(
    serving: Serving, written: AsyncIterator[Written], stop: StopWords, until: float, answer: Answer
) -> AsyncGenerator[list[Event]]:
    """The events of each step, up to a stop word; after `until` the answer is cut off where it stands. One with more than text
    that comes to its end is kept. Raises `Stopping` where the server does before that."""
    assembler = Assembler(serving.model.tokenizer, decode=serving.decode, alternate=answer.alternate)
    watch = serving.metrics.watch()
    try:
        while True:
            async with serving.closing.clock(until):
                new = await anext(written, None)
            if new is None:
                break
            watch.written(len(new.ids))
            answer.ids += new.ids
            answer.likely += new.likely
            if assembler.heavy(new.ids):
                async with serving.closing.clock(until):
                    found = await serving.decoded(lambda ids=new.ids: list(assembler.push(ids)))
            else:
                found = list(assembler.push(new.ids))
            found = stop(found)
            if any(isinstance(event, AudioDelta) and len(event.samples) for event in found):
                watch.sounded()
            if stop.found:
                found += [event for event in assembler.broken_off() if not isinstance(event.content, Text)]
            answer.events += found
            if stop.found:
                answer.stop()
                _ended(serving, answer)
                yield found
                return
            yield found
        if assembler.ends_heavily:
            async with serving.closing.clock(until):
                found = stop(await serving.decoded(lambda: list(assembler.finish())))
        else:
            found = stop(list(assembler.finish()))
    except TimeoutError:
        serving.metrics.tokens(answer.prompt, answer.written)
        if serving.closing.begun and time.monotonic() < until:
            raise Stopping from None
        answer.cut()
        found = stop(list(assembler.broken_off()))
        answer.events += found
        yield found
        return
    if stop.found:
        answer.stop()
    answer.events += found
    _ended(serving, answer)
    yield found


def _ended(serving: Serving, answer: Answer) -> None:
    serving.metrics.tokens(answer.prompt, answer.written)
    if answer.has_media:
        serving.kept.keep(answer.name, answer.ids)


async def asked(
    serving: Serving, stack: AsyncExitStack, prompts: Sequence[tuple[Prompt, Settings]], until: float, stop: Sequence[str] = ()
) -> tuple[list[Answer], AsyncGenerator[tuple[Answer, list[Event] | None]]]:
    """An answer to each of `prompts`, and the events of all as they come, None at the end of each. They run as long as `stack` is
    not left. Raises `Busy` where there is no room for all, and then none of them runs."""
    name, answers, streams = serving.new_name(), [], []
    async with AsyncExitStack() as entered:
        for index, (prompt, settings) in enumerate(prompts):
            written = await entered.enter_async_context(serving.service.writing(prompt, settings))
            answers.append(Answer(serving, name, prompt, settings, index))
            streams.append(answering(serving, written, StopWords(stop), until, answers[-1]))
        stack.push_async_exit(entered.pop_all())
    events = _side_by_side(answers, streams) if len(streams) > 1 else _alone(*answers, *streams)
    stack.push_async_callback(events.aclose)  # nobody reads on while what writes is left
    return answers, events


async def _alone(answer: Answer, stream: AsyncGenerator[list[Event]]) -> AsyncGenerator[tuple[Answer, list[Event] | None]]:
    async with aclosing(stream):
        async for events in stream:
            yield answer, events
    yield answer, None


async def _side_by_side(
    answers: Sequence[Answer], streams: Sequence[AsyncIterator[list[Event]]]
) -> AsyncGenerator[tuple[Answer, list[Event] | None]]:
    queue: asyncio.Queue[tuple[Answer, Any]] = asyncio.Queue(len(streams))

    async def drain(answer: Answer, stream: AsyncIterator[list[Event]]) -> None:
        try:
            async for events in stream:
                await queue.put((answer, events))
            await queue.put((answer, None))
        except Exception as problem:
            await queue.put((answer, problem))

    tasks = [asyncio.ensure_future(drain(*one)) for one in zip(answers, streams, strict=True)]
    try:
        left = len(tasks)
        while left:
            answer, found = await queue.get()
            if isinstance(found, Exception):
                raise found
            left -= found is None
            yield answer, found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Stream(StreamingResponse):
    """A body as it is written; however it ends (all sent, client gone, client too slow), `stack` is left."""

    def __init__(
        self, lines: AsyncIterator[str | bytes], stack: AsyncExitStack, until: float, media_type: str = "text/event-stream"
    ) -> None:
        super().__init__(lines, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._stack, self._until = stack, until

    async def __call__(self, scope, receive, send) -> None:
        try:
            async with asyncio.timeout(self._until + GRACE - time.monotonic()):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            LOG.warning("a client took longer than its time to read its answer")
        finally:
            await self._stack.aclose()


async def drained(request: Request, events: AsyncIterator[object], what: str = "answer") -> Response | None:
    """Wait for the last of `events`. None then, else what is to be answered: where its client goes before, it is given up."""
    writing = asyncio.ensure_future(_last(events))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return Response(status_code=499)
        writing.result()
        return None
    except (Busy, Refused):
        raise
    except Stopping:
        return stopping()
    except Exception:
        LOG.exception("the %s could not be written", what)
        return error(500, f"the {what} could not be written")
    finally:
        for task in (writing, leaving):
            task.cancel()
        await asyncio.gather(writing, leaving, return_exceptions=True)


def problem_said(problem: Exception, what: str = "answer") -> dict:
    """What a stream says that has begun and cannot go on."""
    if isinstance(problem, Stopping):
        return {
            "error": {"message": "the server is stopping, try again later", "type": "server_error", "code": "server_stopping"}
        }
    LOG.error("the %s could not be written", what, exc_info=problem)
    return {"error": {"message": f"the {what} could not be written", "type": "server_error", "param": None, "code": None}}


async def _last(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
