"""What all routes of the server share: the model, the engine, threads for media, limits, the token."""

import asyncio
import hmac
import time
from concurrent.futures import ThreadPoolExecutor

import pydantic
from fastapi import Request
from fastapi.responses import JSONResponse

from mmpt.errors import MmptError
from mmpt.inference.decoding import Decode
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.errors import Refused, error, mistakes
from mmpt.inference.server.kept import KeptAnswers
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.service import Service
from mmpt.inference.server.writers import Writer


class Serving:
    """One model, called `name` in answers, and what its requests go through.

    `token`: what clients must send as `Authorization: Bearer`. `decode` makes pictures and sounds of codes, by default in
    threads here; `writer` writes, by default the model's engine in a thread here.
    """

    def __init__(
        self,
        model: MultimodalModel,
        name: str,
        limits: Limits,
        token: str | None,
        decode: Decode | None,
        writer: Writer | None = None,
    ) -> None:
        self.model, self.name, self.limits, self.decode = model, name, limits, decode
        self._token = token
        engine = model.engine(max_rows=limits.running, kv_tokens=limits.kv_tokens)
        self.service = Service(engine, limits.waiting, writer)
        self.kept = KeptAnswers()
        # Media have threads of their own: whoever sends text alone does not wait for others' pictures.
        self._reading, self._media = (ThreadPoolExecutor(2, thread_name_prefix=name) for name in ("reading", "media"))
        # Where another process decodes, these threads only wait for it.
        self._decoding = ThreadPoolExecutor(2 if decode is None else limits.running, thread_name_prefix="decoding")

    def start(self) -> None:
        self.service.start()

    def close(self) -> None:
        self.service.close()
        for threads in (self._reading, self._media, self._decoding):
            threads.shutdown(cancel_futures=True)

    def allow(self, request: Request) -> None:
        """Raises `Refused` where the request has not the token."""
        given = request.headers.get("authorization", "").encode()
        if self._token is not None and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise Refused(401, "expected the header Authorization: Bearer with this server's token")

    def known(self, asked: str | None) -> None:
        """Raises `Refused` where another model is asked for."""
        if asked is not None and asked != self.name:
            raise Refused(404, f"the model {asked!r} does not exist; this server has {self.name!r}", "model_not_found")

    def busy(self) -> JSONResponse:
        """The answer where too many wait already."""
        reason = f"{self.service.taken} requests wait or run already, try again later"
        return error(429, reason, "rate_limit_exceeded", {"Retry-After": "1"})

    async def read(self, function, *arguments, media: bool = False):
        """Tokenizers work in threads, so that the others' answers go on; what a request has wrong is `Refused`."""
        threads = self._media if media else self._reading
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
        except pydantic.ValidationError as problem:
            raise Refused(400, mistakes(problem)) from None
        except (MmptError, ValueError, RecursionError) as problem:
            raise Refused(400, str(problem)) from None

    async def decoded(self, function):
        """The result of a `function` that decodes pictures or sounds."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, function)

    async def body(self, request: Request, kind: str) -> bytes:
        """The body of content type `kind`. Raises `Refused` on another type, and where it is too large or too slow."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
            raise Refused(415, f"expected Content-Type: {kind}")
        try:
            return await asyncio.wait_for(_body(request, self.limits.body), self.limits.arrival)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.limits.arrival:g} s") from None

    @property
    def until(self) -> float:
        """When a request that begins now is cut off, by `time.monotonic`."""
        return time.monotonic() + self.limits.request


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
