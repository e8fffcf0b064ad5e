"""What the server says about itself: its health and figures, its model."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mmpt.inference.server.closing import stopping
from mmpt.inference.server.metrics import CONTENT_TYPE
from mmpt.inference.server.realtime_response import reads
from mmpt.inference.server.serving import Serving


def about_routes(serving: Serving, created: int | None = None) -> APIRouter:
    """`/health`, `/metrics` and `/v1/models`. `created`: when the model was made, in seconds since 1970; by default now."""
    router = APIRouter()
    described = {"id": serving.name, "object": "model", "created": int(time.time()) if created is None else created}
    described |= {"owned_by": "mmpt"}
    tokenizer = serving.model.tokenizer
    # Whether it knows turns, speaks, and can tell the text of what it hears: by that the page sets itself up.
    able = {"turns": tokenizer.chat is not None, "speaks": tokenizer.speech is not None, "reads": reads(tokenizer.speech)}

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        if serving.closing.begun:
            return stopping()
        return JSONResponse({"status": "ok", "model": serving.name, "requests": serving.service.taken, **able})

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        serving.allow(request)
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/v1/models")
    async def models(request: Request) -> dict:
        serving.allow(request)
        return {"object": "list", "data": [described]}

    @router.get("/v1/models/{number:path}")
    async def one_model(request: Request, number: str) -> dict:
        serving.allow(request)
        serving.known(number)
        return described

    return router
