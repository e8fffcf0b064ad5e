"""What the server says about itself: its health, its model."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mmpt.inference.server.realtime_response import reads
from mmpt.inference.server.serving import Serving


def about_routes(serving: Serving, created: int | None = None) -> APIRouter:
    """`/health` and `/v1/models`. `created`: when the model was made, in seconds since 1970; by default now."""
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
    async def health() -> dict:
        return {"status": "ok", "model": serving.name, "requests": serving.service.taken, **able}

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
