"""What all routes of the server share: the model, the engine, threads for media, limits, the token."""

import asyncio
import hmac
import os
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pydantic
from fastapi import Request
from starlette.requests import ClientDisconnect

from mmpt.errors import MmptError
from mmpt.inference.decoding import Decode
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.closing import Closing
from mmpt.inference.server.errors import Refused, mistaken, mistakes
from mmpt.inference.server.fair import FairService
from mmpt.inference.server.fields import Body
from mmpt.inference.server.kept import KeptAnswers
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.metrics import Metrics
from mmpt.inference.server.service import Busy, Service
from mmpt.inference.server.shares import CLIENT, Share, Turns
from mmpt.inference.server.writers import Writer
from mmpt.model.prompts import Prompts

B = TypeVar("B", bound=Body)
TOLD = 2.0
"""Seconds until who is turned away is told so, where there are others: they do not pay for questions that are put again and
again."""


class Serving:
    """One model, called `name` in answers, and what its requests go through.

    `token`: what clients must send as `Authorization: Bearer`. `decode` makes pictures and sounds of codes, by default in
    threads here. `prompts`: how the model is asked to speak, to write down and to draw. `writer` writes, by default the model's
    engine in a thread here.
    """

    def __init__(
        self,
        model: MultimodalModel,
        name: str,
        limits: Limits,
        token: str | None,
        decode: Decode | None,
        prompts: Prompts = Prompts(),  # noqa: B008 (frozen)
        writer: Writer | None = None,
    ) -> None:
        self.prompts, self.closing = prompts, Closing()
        self.model, self.name, self.limits, self.decode = model, name, limits, decode
        self._token = token
        self.service = FairService(
            Service(model.engine(**limits.engine), limits.waiting, writer),
            Turns(limits.running, limits.waiting, limits.spare),
            limits.waiting,
        )
        self.metrics = Metrics(lambda: self.service.taken, limits.running, lambda: self.service.keys, limits)
        self.kept = KeptAnswers()
        self.held, self.sessions = Share(limits.bodies), Share(limits.sessions)
        # Media have threads of their own: whoever sends text alone does not wait for others' pictures.
        self._reading, self._media = (
            (ThreadPoolExecutor(2, thread_name_prefix=name, initializer=first), Turns(2, limits.waiting))
            for name, first in (("reading", None), ("media", _behind))
        )
        # Where another process decodes, these threads only wait for it. Nobody is turned away in the middle of an answer.
        at_once = 2 if decode is None else decode.at_once
        self._decoding = ThreadPoolExecutor(at_once + limits.spare, thread_name_prefix="decoding")
        self._decoders = Turns(at_once, sys.maxsize, limits.spare)

    def start(self) -> None:
        self.service.start()

    def close(self) -> None:
        self.service.close()
        for threads in (self._reading[0], self._media[0], self._decoding):
            threads.shutdown(wait=False, cancel_futures=True)  # nobody waits for what they do any more

    def allow(self, request: Request) -> None:
        """Raises `Refused` where the request has not the token."""
        self.admit(request.headers.getlist("authorization"))

    def admit(self, given: Sequence[str]) -> None:
        """Raises `Refused` where the headers `given` are not one with the token."""
        wanted = f"Bearer {self._token}".encode()
        if self._token is not None and not (
            len(given) == 1 and hmac.compare_digest(given[0].encode("latin-1", "replace"), wanted)
        ):
            raise Refused(401, "expected the header Authorization: Bearer with this server's token")

    def known(self, asked: str | None) -> None:
        """Raises `Refused` where another model is asked for."""
        if asked is not None and asked != self.name:
            raise Refused(404, f"the model {asked!r} does not exist; this server has {self.name!r}", "model_not_found")

    @staticmethod
    def new_name() -> str:
        """One that no answer has yet."""
        return uuid.uuid4().hex

    def enter(self, request: Request) -> float:
        """When the request is cut off, by `time.monotonic`. Raises `Refused` where it has not the token, and `Busy` where there
        is no room for it, both before its body is read."""
        self.allow(request)
        if self.service.full:
            raise Busy
        return self.until

    async def given(self, request: Request, kind: type[B]) -> B:
        """What the request's JSON asks for. Raises `Refused` where it is none of that kind, or another model's."""
        body = await self.body(request, "application/json")
        found = await self.read(kind.model_validate_json, body)
        self.known(found.model)
        return found

    async def read(self, function, *arguments, media: bool = False, asker: Request | None = None):
        """Tokenizers work in threads, so that the others' answers go on; what a request has wrong is `Refused`. Where its `asker`
        has gone by the time that its turn comes, nothing is read: raises `ClientDisconnect`."""
        threads, turns = self._media if media else self._reading
        try:
            async with turns.place(CLIENT.get(), self.service.rest):
                if asker is not None and await asker.is_disconnected():
                    raise ClientDisconnect
                return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
        except Busy:
            raise Refused(429, "too much waits to be read, try again later", "rate_limit_exceeded") from None
        except pydantic.ValidationError as problem:
            raise Refused(400, mistakes(problem), param=mistaken(problem)) from None
        except (MmptError, ValueError, RecursionError) as problem:
            raise Refused(400, str(problem)) from None

    async def decoded(self, function):
        """The result of a `function` that decodes pictures or sounds."""
        async with self._decoders.place(CLIENT.get()):
            return await asyncio.get_running_loop().run_in_executor(self._decoding, function)

    async def busy(self) -> None:
        """Before who asks is told that there is no room."""
        await asyncio.sleep(TOLD if self.service.crowded else 0.0)

    async def body(self, request: Request, kind: str) -> bytes:
        """The body of content type `kind`. Raises `Refused` on another type, and as `Guard` says."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
            raise Refused(415, f"expected Content-Type: {kind}")
        return await request.body()

    @property
    def until(self) -> float:
        """When a request that begins now is cut off, by `time.monotonic`."""
        return time.monotonic() + self.limits.request


def _behind() -> None:
    """This thread gets a third of a core that another one wants too: pictures do not hold up answers."""
    if sys.platform == "linux":  # where it holds for the thread alone
        os.nice(5)
