"""The page: files of the package, which load nothing from elsewhere."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from mmpt.inference.server.errors import Refused

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Nothing from elsewhere, nothing inline, and no text becomes HTML."""
KINDS = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """The page at `/`, its parts under `/static`."""
    router = APIRouter()
    folder = files("mmpt.inference.server") / "static"
    # Read once: what is asked for is a name among these, never a path.
    found = {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in KINDS}

    def answered(name: str) -> Response:
        kind = KINDS[name.rpartition(".")[2]]
        return Response(found[name], media_type=f"{kind}; charset=utf-8", headers=HEADERS)

    @router.get("/")
    async def page() -> Response:
        return answered("index.html")

    @router.get("/static/{name}")
    async def part(name: str) -> Response:
        if name not in found:
            raise Refused(404, "no such part of the page")
        return answered(name)

    return router
