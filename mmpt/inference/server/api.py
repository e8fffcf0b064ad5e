"""`mmpt serve`: OpenAI's interface over HTTP, and one page to try it in. Each route is in a file of its own."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mmpt.inference.decoding import Decode
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.about import about_routes
from mmpt.inference.server.chat import chat_routes
from mmpt.inference.server.closing import Door
from mmpt.inference.server.errors import Refused, error
from mmpt.inference.server.guard import Guard
from mmpt.inference.server.hosts import LOCAL
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.metrics import Counting
from mmpt.inference.server.page import page_routes
from mmpt.inference.server.pictures import picture_routes
from mmpt.inference.server.realtime import realtime_routes
from mmpt.inference.server.service import Busy
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.speech import speech_routes
from mmpt.inference.server.transcription import transcription_routes
from mmpt.inference.server.writers import Writer
from mmpt.model.prompts import Prompts

LOG = logging.getLogger("mmpt.serve")


def build_app(
    model: MultimodalModel,
    name: str,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    token: str | None = None,
    hosts: Sequence[str] = LOCAL,
    decode: Decode | None = None,
    created: int | None = None,
    prompts: Prompts = Prompts(),  # noqa: B008 (frozen)
    writer: Writer | None = None,
) -> FastAPI:
    """The server of one model, called `name` in answers.

    `token`: what clients must send as `Authorization: Bearer`. `hosts`: names under which a browser may have reached it ("*":
    any), so that no other site's page can by a name of its own that points here. `decode` makes pictures and sounds of codes, by
    default in threads here. `created`: when the model was made, in seconds since 1970; by default now. `prompts`: how the model
    is asked to speak, to write down and to draw. `writer` writes, by default the model's engine in a thread here.
    """
    serving = Serving(model, name, limits, token, decode, prompts, writer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving.start()
        yield
        serving.close()

    app = FastAPI(title="mmpt", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, limits=limits, hosts=tuple(hosts), held=serving.held)
    app.add_middleware(Door, closing=serving.closing)
    app.add_middleware(Counting, metrics=serving.metrics)  # the outermost: what is turned away counts too
    app.state.service, app.state.closing = serving.service, serving.closing
    for router in (
        page_routes(),
        about_routes(serving, created),
        chat_routes(serving),
        speech_routes(serving),
        transcription_routes(serving),
        picture_routes(serving),
        realtime_routes(serving),
    ):
        app.include_router(router)

    @app.exception_handler(Refused)
    async def refused(_: Request, problem: Refused) -> JSONResponse:
        if problem.status == 429:
            await serving.busy()
        return error(problem.status, str(problem), problem.code, param=problem.param)

    @app.exception_handler(Busy)
    async def busy(*_) -> JSONResponse:
        reason = f"{serving.service.taken} requests wait or run already, try again later"
        await serving.busy()
        return error(429, reason, "rate_limit_exceeded")

    @app.exception_handler(ClientDisconnect)
    async def gone(*_) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, problem: HTTPException) -> JSONResponse:
        said = {404: "no such path", 405: "this method is not allowed here"}.get(problem.status_code, str(problem.detail))
        return error(problem.status_code, f"{request.method} {request.url.path}: {said}", headers=problem.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, problem: Exception) -> JSONResponse:
        LOG.error("%r %r", request.method, request.url.path, exc_info=problem)
        return error(500, "the request could not be answered")

    return app
