"""`mmpt serve`: chat completions over HTTP, and one page to try them in."""

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files

import pydantic
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mmpt.chat import Said
from mmpt.document import Text
from mmpt.errors import DataError, MmptError
from mmpt.inference.decoding import Decode
from mmpt.inference.engine import Prompt
from mmpt.inference.events import Assembler, Event
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.kept import KeptAnswers
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.messages import deltas, message
from mmpt.inference.server.request import ChatRequest
from mmpt.inference.server.service import Busy, Service
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.settings import Settings

LOG = logging.getLogger("mmpt.serve")
GRACE = 10.0
"""Seconds in which a client may read the end of an answer that was cut off for its time."""
REFUSED = {"logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "functions", "function_call", "logit_bias"}
REFUSED |= {"frequency_penalty", "presence_penalty"}
"""What OpenAI's API has and this server has not."""
LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


class Refused(Exception):
    """A request that is answered by an HTTP status of 400 or more, and why; `code`: OpenAI's name for it, where it has one."""

    def __init__(self, status: int, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.code = status, code


class Hosts:
    """Refuses requests under a host name other than `allowed` ("*": any)."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "*" in self._allowed or _host(scope) in self._allowed:
            await self._app(scope, receive, send)
        else:
            await _error(400, f"{_host(scope)!r}: this server does not answer to that host name")(scope, receive, send)


def _host(scope: Scope) -> str:
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name, _, port = given.rpartition(":")
    return name if port.isdecimal() else given


def build_app(
    model: MultimodalModel,
    name: str,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    token: str | None = None,
    hosts: Sequence[str] = LOCAL,
    decode: Decode | None = None,
    created: int | None = None,
) -> FastAPI:
    """The server of one model, called `name` in answers.

    `token`: what clients must send as `Authorization: Bearer`. `hosts`: names under which a browser may have reached it ("*":
    any), so that no other site's page can by a name of its own that points here. `decode` makes pictures and sounds of codes, by
    default in threads here. `created`: when the model was made, in seconds since 1970; by default now.
    """
    service = Service(model.engine(max_rows=limits.running), limits.waiting)
    # Media have threads of their own: whoever sends text alone does not wait for others' pictures.
    reading, media = (ThreadPoolExecutor(2, thread_name_prefix=name) for name in ("reading", "media"))
    kept = KeptAnswers()
    described = {"id": name, "object": "model", "created": int(time.time()) if created is None else created, "owned_by": "mmpt"}
    # Where another process decodes, these threads only wait for it.
    decoding = ThreadPoolExecutor(2 if decode is None else limits.running, thread_name_prefix="decoding")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()
        reading.shutdown(cancel_futures=True)
        media.shutdown(cancel_futures=True)
        decoding.shutdown(cancel_futures=True)

    app = FastAPI(title="mmpt", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Hosts, allowed=tuple(hosts))
    app.state.service = service

    @app.exception_handler(Refused)
    async def refused(_: Request, problem: Refused) -> JSONResponse:
        return _error(problem.status, str(problem), problem.code)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, problem: HTTPException) -> JSONResponse:
        said = {404: "no such path", 405: "this method is not allowed here"}.get(problem.status_code, str(problem.detail))
        return _error(problem.status_code, f"{request.method} {request.url.path}: {said}", headers=problem.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, problem: Exception) -> JSONResponse:
        LOG.error("%s %s", request.method, request.url.path, exc_info=problem)
        return _error(500, "the request could not be answered")

    def allowed(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Refused(401, "expected the header Authorization: Bearer with this server's token")

    async def read(function, *arguments, media_too: bool = False):
        """Tokenizers work in threads, so that the others' answers go on."""
        threads = media if media_too else reading
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def decoded(function):
        return await asyncio.get_running_loop().run_in_executor(decoding, function)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(files("mmpt.inference.server").joinpath("page.html").read_text(encoding="utf-8"))

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict:
        return {"status": "ok", "model": name, "requests": service.taken}

    @app.get("/v1/models")
    async def models(request: Request) -> dict:
        allowed(request)
        return {"object": "list", "data": [described]}

    @app.get("/v1/models/{number:path}")
    async def one_model(request: Request, number: str) -> dict:
        allowed(request)
        _known(number, name)
        return described

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        allowed(request)
        begun = time.monotonic()
        if service.full:  # before its body is read
            return _busy(service)
        asked, prompt, settings = await _understood(request, model, limits, service, read, name, kept)
        number = uuid.uuid4().hex
        answer = _Answer(f"chatcmpl-{number}", name, prompt, settings)
        stack = AsyncExitStack()
        try:
            written = await stack.enter_async_context(service.writing(prompt, settings))
        except Busy:
            return _busy(service)
        assembler, stop = Assembler(model.tokenizer, decode=decode), StopWords(asked.stop)
        events = _events(written, assembler, stop, decoded, begun + limits.request, answer, kept)
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return _Stream(_lines(events, answer, usage), stack, begun + limits.request)
        async with stack:
            return await _whole(request, events, answer)

    return app


def _busy(service: Service) -> JSONResponse:
    reason = f"{service.taken} requests wait or run already, try again later"
    return _error(429, reason, "rate_limit_exceeded", {"Retry-After": "1"})


def _known(asked: str, name: str) -> None:
    if asked != name:
        raise Refused(404, f"the model {asked!r} does not exist; this server has {name!r}", "model_not_found")


class _Answer:
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


async def _understood(
    request: Request, model: MultimodalModel, limits: Limits, service: Service, read, name: str, kept: KeptAnswers
) -> tuple[ChatRequest, Prompt, Settings]:
    """The request as the engine takes it. Raises `Refused`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "expected Content-Type: application/json")
    try:
        body = await asyncio.wait_for(_body(request, limits.body), limits.arrival)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {limits.arrival:g} s") from None
    try:
        asked = await read(ChatRequest.model_validate_json, body)
        if asked.model is not None:
            _known(asked.model, name)
        settings = asked.settings(limits)
        heavy = len(body) > 100_000  # text alone is seldom as long
        parts = await read(asked.parts, limits, model.tokenizer.chat, kept, media_too=heavy)
        prompt = await read(_prompt, asked, parts, model, limits, media_too=any(not isinstance(part, Text) for part in parts))
    except pydantic.ValidationError as problem:
        raise Refused(400, _mistakes(problem)) from None
    except (MmptError, ValueError, RecursionError) as problem:
        raise Refused(400, str(problem)) from None
    try:
        return asked, prompt, service.fitted(prompt, settings)
    except MmptError as problem:
        raise Refused(400, str(problem), "context_length_exceeded") from None


def _prompt(asked: ChatRequest, parts: list[Said], model: MultimodalModel, limits: Limits) -> Prompt:
    try:
        (prompt,) = model.prompts([parts])
    except MmptError as problem:
        raise DataError(asked.damaged(parts) or str(problem)) from None
    if len(prompt.ids) > limits.prompt_tokens:
        reason = f"the prompt has {len(prompt.ids)} tokens, at most {limits.prompt_tokens} are read"
        raise Refused(400, reason, "context_length_exceeded")
    return prompt


async def _body(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise Refused(413, f"a body of {declared} bytes, at most {most} are taken")
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > most:
            raise Refused(413, f"a body of more than {most} bytes")
    return bytes(found)


async def _events(
    written: AsyncIterator[list[int]],
    assembler: Assembler,
    stop: StopWords,
    beside,
    until: float,
    answer: _Answer,
    kept: KeptAnswers,
) -> AsyncIterator[list[Event]]:
    """The events of each step, up to a stop word; after `until` the answer is cut off where it stands. One that comes to its end
    is kept."""
    try:
        while True:
            async with asyncio.timeout(until - time.monotonic()):
                ids = await anext(written, None)
            if ids is None:
                break
            answer.ids += ids
            if assembler.heavy(ids):
                events = await beside(lambda ids=ids: list(assembler.push(ids)))
            else:
                events = list(assembler.push(ids))
            events = stop(events)
            answer.events += events
            if stop.found:
                answer.stop()
                kept.keep(f"audio-{answer.id}", answer.events)
                yield events
                return
            yield events
    except TimeoutError:
        answer.cut()
        return
    events = stop(await beside(lambda: list(assembler.finish())))
    if stop.found:
        answer.stop()
    answer.events += events
    kept.keep(f"audio-{answer.id}", answer.events)
    yield events


class _Stream(StreamingResponse):
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


async def _lines(events: AsyncIterator[list[Event]], answer: _Answer, usage: bool) -> AsyncIterator[str]:
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


async def _whole(request: Request, events: AsyncIterator[list[Event]], answer: _Answer) -> Response:
    writing = asyncio.ensure_future(_drained(events))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return Response(status_code=499)
        writing.result()
    except Exception:
        LOG.exception("%s: the answer could not be written", answer.id)
        return _error(500, "the answer could not be written")
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


def _error(status: int, reason: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return JSONResponse({"error": {"message": reason, "type": kind, "param": None, "code": code}}, status, headers)


def _mistakes(problem: pydantic.ValidationError) -> str:
    lines = []
    for error in problem.errors(include_url=False, include_input=False)[:10]:
        key = ".".join(str(step) for step in error["loc"]) or "the body"
        unknown = error["type"] == "extra_forbidden" or key.partition(".")[0] in REFUSED
        lines.append(f"{key}: {'not supported by this server' if unknown else error['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
