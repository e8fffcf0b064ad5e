"""`POST /v1/audio/speech`: a text, spoken."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Literal

import pydantic
from fastapi import APIRouter, Request
from fastapi.responses import Response

from mmpt.document import Text
from mmpt.inference.events import AudioDelta
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.answer import Answer, Stream, asked, problem_said
from mmpt.inference.server.chat import Events, fitted
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.fields import Body
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.sounds import MEDIA_TYPES, SoundFormat, check_format, sound_writer
from mmpt.inference.settings import Settings


class SpeechRequest(Body):
    """The model has one voice and one speed, and takes no instructions. The fields of the last group are our own."""

    input: str = pydantic.Field(min_length=1, max_length=4096)
    voice: Literal["default"] = "default"
    response_format: SoundFormat = "mp3"
    speed: Annotated[float, pydantic.Field(ge=1, le=1)] = 1.0
    stream_format: Literal["sse", "audio"] = "audio"

    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    seed: int = pydantic.Field(default=0, gt=-(1 << 63), lt=1 << 63)

    @property
    def sampler(self) -> Sampler:
        """That of codes of speech."""
        return TopP(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)


async def spoken(
    serving: Serving,
    stack: AsyncExitStack,
    text: str,
    until: float,
    sampler: Sampler = TopP(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> tuple[Answer, Events]:
    """`text` spoken by the model, as `prompts.speech` asks for it: one utterance, whose events come as it is written. Runs as
    long as `stack` is not left. Raises `Busy`, and `Refused` where it cannot be."""
    vocabulary = serving.model.tokenizer.vocabulary
    if not vocabulary.speech_codes or serving.model.tokenizer.speech is None:
        raise Refused(400, "this model has no codes of speech, so it does not speak")
    (prompt,) = await serving.read(serving.model.prompts, [serving.prompts.asked(serving.prompts.speech, Text(text))])
    most = serving.limits.new_tokens
    wanted = Settings(outputs=("speech",), max_parts=1, max_new_tokens=most + 1, speech=sampler, seed=seed % (1 << 62))
    (settings,) = fitted(serving, prompt, [wanted])
    (answer,), events = await asked(serving, stack, [(prompt, settings)], until)
    return answer, events


def speech_routes(serving: Serving) -> APIRouter:
    """The route of speech."""
    router = APIRouter()

    @router.post("/v1/audio/speech")
    async def speak(request: Request) -> Response:
        until = serving.enter(request)
        given = await serving.given(request, SpeechRequest)
        await serving.read(check_format, given.response_format)
        stack = AsyncExitStack()
        answer, events = await spoken(serving, stack, given.input, until, given.sampler, given.seed)
        sound = _encoded(serving, given.response_format, events)
        if given.stream_format == "sse":
            return Stream(_lines(sound, answer), stack, until)
        return Stream(sound, stack, until, MEDIA_TYPES[given.response_format])

    return router


async def _encoded(serving: Serving, form: SoundFormat, events: Events) -> AsyncIterator[bytes]:
    """The file, as far as it is there, as it is spoken."""
    speech = serving.model.tokenizer.speech
    writer = sound_writer(form, speech.sound_rate if speech is not None else 0)
    async for _, found in events:
        for event in found or ():
            if isinstance(event, AudioDelta) and (new := writer.write(event.samples)):
                yield new
    if last := writer.close():
        yield last


async def _lines(sound: AsyncIterator[bytes], answer: Answer) -> AsyncIterator[str]:
    """The same as OpenAI's server-sent events."""
    try:
        async for new in sound:
            yield _line({"type": "speech.audio.delta", "audio": base64.b64encode(new).decode()})
        counts = {"input_tokens": sum(answer.prompt.values()), "output_tokens": len(answer.ids)}
        yield _line({"type": "speech.audio.done", "usage": counts | {"total_tokens": sum(counts.values())}})
    except Exception as problem:
        yield _line({"type": "error", **problem_said(problem, "speech")})


def _line(content: dict) -> str:
    return f"data: {json.dumps(content)}\n\n"
