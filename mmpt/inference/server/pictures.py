"""`POST /v1/images/generations`: a text, drawn."""

import base64
import io
import re
import time
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

import PIL.Image
import pydantic
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mmpt.document import Image, Text
from mmpt.inference.events import PartDone
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.answer import Answer, asked, drained
from mmpt.inference.server.chat import fitted
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.fields import Body
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.tokens import summed
from mmpt.inference.settings import Settings

_SIZE = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", re.ASCII)
MOST_SIDE = 2048
"""Pixels of a side to which a picture is enlarged."""


class PictureRequest(Body):
    """A picture is drawn at the size that the image tokenizer draws, and resized to another of the same shape. The fields of the
    last group are our own."""

    prompt: str = pydantic.Field(min_length=1, max_length=32_000)
    n: int = pydantic.Field(default=1, ge=1, le=10)
    size: str = "auto"
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = pydantic.Field(default=100, ge=0, le=100)
    background: Literal["auto", "opaque"] = "auto"
    quality: Literal["auto"] = "auto"
    moderation: Literal["auto", "low"] = "auto"
    stream: Literal[False] = False
    partial_images: Annotated[int, pydantic.Field(ge=0, le=0)] = 0

    temperature: float = pydantic.Field(default=1.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    guidance: float = pydantic.Field(default=1.0, ge=0, le=100)
    seed: int = pydantic.Field(default=0, gt=-(1 << 63), lt=1 << 63)

    @pydantic.model_validator(mode="after")
    def _together(self) -> "PictureRequest":
        if "output_compression" in self.model_fields_set and self.output_format == "png":
            raise ValueError("output_compression goes with output_format: jpeg or webp")
        if self.wanted is None and self.size != "auto":
            raise ValueError("size: expected auto, or WIDTHxHEIGHT in pixels")
        return self

    @property
    def wanted(self) -> tuple[int, int] | None:
        """(Width, height), None: as it is drawn."""
        found = _SIZE.fullmatch(self.size)
        return (int(found[1]), int(found[2])) if found else None

    def settings(self, codes: int) -> list[Settings]:
        """As the engine takes them, for each of the `n` pictures of so many `codes`."""
        sampler = TopP(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)
        base = Settings(outputs=("image",), max_parts=1, max_new_tokens=codes + 3, image=sampler, guidance=self.guidance)
        return [base.model_copy(update={"seed": self.seed % (1 << 61) + number}) for number in range(self.n)]

    def file(self, picture: PIL.Image.Image) -> bytes:
        """The picture in that size and format."""
        if self.wanted and self.wanted != picture.size:
            picture = picture.resize(self.wanted, PIL.Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        options: dict[str, Any] = {} if self.output_format == "png" else {"quality": self.output_compression}
        picture.save(buffer, self.output_format.upper(), **options)
        return buffer.getvalue()


def picture_routes(serving: Serving) -> APIRouter:
    """The route of pictures."""
    router = APIRouter()

    @router.post("/v1/images/generations")
    async def draw(request: Request) -> Response:
        until = serving.enter(request)
        given = await serving.given(request, PictureRequest)
        _check(serving, given)
        prompts = [serving.prompts.asked(serving.prompts.image, Text(given.prompt))]
        (prompt,) = await serving.read(serving.model.prompts, prompts)
        settings = fitted(serving, prompt, given.settings(serving.model.tokenizer.vocabulary.codes_per_image))
        async with AsyncExitStack() as stack:
            answers, events = await asked(serving, stack, [(prompt, one) for one in settings], until)
            problem = await drained(request, events, "picture")
        if problem is not None:
            return problem
        return JSONResponse(await serving.decoded(lambda: _answer(given, answers)))

    return router


def _check(serving: Serving, given: PictureRequest) -> None:
    """Raises `Refused` where the model does not draw, or not so."""
    image = serving.model.tokenizer.image
    if image is None or not serving.model.tokenizer.vocabulary.image_codes:
        raise Refused(400, "this model has no codes of pictures, so it does not draw")
    if given.n > serving.limits.running:
        raise Refused(400, f"n: {given.n}, at most {serving.limits.running} pictures are drawn at once")
    if given.wanted and (given.wanted[0] != given.wanted[1] or given.wanted[0] > MOST_SIDE):
        side = image.figures.side
        raise Refused(
            400, f"size: {given.size}; this model draws {side}x{side}, and is resized to squares up to {MOST_SIDE}x{MOST_SIDE}"
        )


def _answer(given: PictureRequest, answers: list[Answer]) -> dict:
    data, size = [], given.size
    for answer in answers:
        drawn = [event.content for event in answer.events if isinstance(event, PartDone) and isinstance(event.content, Image)]
        if not drawn:  # its time was over
            raise Refused(503, "there was not enough time to draw", "timeout")
        with PIL.Image.open(io.BytesIO(drawn[0].data)) as picture:
            size = "{}x{}".format(*(given.wanted or picture.size))
            data.append({"b64_json": base64.b64encode(given.file(picture.convert("RGB"))).decode()})
    prompt, written = answers[0].prompt, summed([answer.written for answer in answers])
    asked_tokens, drawn_tokens = sum(prompt.values()), sum(written.values())
    return {
        "created": int(time.time()),
        "background": "opaque",
        "data": data,
        "output_format": given.output_format,
        "size": size,
        "usage": {
            "input_tokens": asked_tokens,
            "input_tokens_details": {"image_tokens": prompt["image"], "text_tokens": prompt["text"]},
            "output_tokens": drawn_tokens,
            "output_tokens_details": {"image_tokens": written["image"], "text_tokens": written["text"]},
            "total_tokens": asked_tokens + drawn_tokens,
        },
    }
