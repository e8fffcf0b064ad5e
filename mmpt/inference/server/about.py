"""What the server says about itself: the page, its health, its model."""

import time
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from mmpt.inference.server.serving import Serving


def about_routes(serving: Serving, created: int | None = None) -> APIRouter:
    """The page, `/health` and `/v1/models`. `created`: when the model was made, in seconds since 1970; by default now."""
    router = APIRouter()
    described = {"id": serving.name, "object": "model", "created": int(time.time()) if created is None else created}
    described |= {"owned_by": "mmpt"}

    @router.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(files("mmpt.inference.server").joinpath("page.html").read_text(encoding="utf-8"))

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict:
        return {"status": "ok", "model": serving.name, "requests": serving.service.taken}

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
