"""`POST /v1/audio/transcriptions`: the text of a recording."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

import pydantic
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.answer import Stream, drained, problem_said
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.fields import Body
from mmpt.inference.server.messages import logprobs
from mmpt.inference.server.recordings import Recording, Segment, check_hears, read_recording, transcribed
from mmpt.inference.server.service import Busy
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.tokens import summed

_LISTS = {"timestamp_granularities", "include"}
_MOST_FIELDS = 40


class TranscriptionRequest(Body):
    """`language` is repeated in `verbose_json` and changes nothing else: the model knows the languages that it was trained on.
    `seed` is our own."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    language: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z]{2,16}([-_][A-Za-z]{2,8})?$")] | None = None
    prompt: str = ""
    temperature: float = pydantic.Field(default=0.0, ge=0, le=1)
    timestamp_granularities: list[Literal["word", "segment"]] = ["segment"]
    include: list[Literal["logprobs"]] = []
    chunking_strategy: Literal["auto"] = "auto"
    stream: bool = False
    seed: int = pydantic.Field(default=0, gt=-(1 << 63), lt=1 << 63)

    @pydantic.model_validator(mode="after")
    def _together(self) -> "TranscriptionRequest":
        if self.prompt:
            raise ValueError("prompt: the model was trained with words of its own, and takes no other")
        if "word" in self.timestamp_granularities:
            raise ValueError("timestamp_granularities: when a single word is said is not known, expected segment")
        if "timestamp_granularities" in self.model_fields_set and self.response_format != "verbose_json":
            raise ValueError("timestamp_granularities goes with response_format: verbose_json")
        if self.include and self.response_format != "json":
            raise ValueError("include: logprobs goes with response_format: json")
        if self.stream and self.response_format not in ("json", "text"):
            raise ValueError("stream goes with response_format: json or text")
        return self


def transcription_routes(serving: Serving) -> APIRouter:
    """The route of transcriptions."""
    router = APIRouter()

    @router.post("/v1/audio/transcriptions")
    async def transcribe(request: Request) -> Response:
        until = serving.enter(request)
        check_hears(serving)
        given, data = await _form(serving, request)
        serving.known(given.model)
        recording = await serving.read(read_recording, data, serving.limits.recording, media=True, asker=request)
        sampler = TopP(temperature=given.temperature)
        stack = AsyncExitStack()
        segments = transcribed(serving, stack, recording, until, sampler, given.seed, live=given.stream)
        if given.stream:
            return Stream(_lines(serving, given, recording, segments), stack, until)
        found: list[Segment] = []
        async with stack:
            problem = await drained(request, _kept(segments, found), "transcription")
        return problem or _answer(serving, given, recording, found)

    return router


async def _kept(segments: AsyncIterator[Segment], found: list[Segment]) -> AsyncIterator[None]:
    async for segment in segments:
        found.append(segment)
        yield


async def _form(serving: Serving, request: Request) -> tuple[TranscriptionRequest, bytes]:
    """The fields and the file. Raises `Refused`."""
    body = await serving.body(request, "multipart/form-data")

    async def whole() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=_MOST_FIELDS, max_part_size=1 << 20)  # pyright: ignore[reportArgumentType]
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, AssertionError) as problem:
        raise Refused(400, f"no form that can be read ({getattr(problem, 'message', problem)})") from None
    fields: dict[str, Any] = {}
    data: bytes | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise Refused(400, f"{name}: expected one file, as the field file")
            data = await value.read()
            continue
        name = name.removesuffix("[]")
        if name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise Refused(400, f"{name}: it stands there twice")
        else:
            fields[name] = value
    await form.close()
    if data is None:
        raise Refused(400, "file: expected a recording")
    return await serving.read(TranscriptionRequest.model_validate, fields), data


def _answer(serving: Serving, given: TranscriptionRequest, recording: Recording, found: Sequence[Segment]) -> Response:
    text = _text(found)
    if given.response_format == "text":
        return PlainTextResponse(text + "\n")
    if given.response_format == "srt":
        return PlainTextResponse(_subtitles(found, ","))
    if given.response_format == "vtt":
        return PlainTextResponse("WEBVTT\n\n" + _subtitles(found, "."), media_type="text/vtt")
    if given.response_format == "verbose_json":
        return JSONResponse(
            {
                "task": "transcribe",
                "language": given.language or "unknown",
                "duration": recording.seconds,
                "text": text,
                "segments": [one.json(number, given.temperature) for number, one in enumerate(found) if one.text],
                "usage": {"type": "duration", "seconds": round(recording.seconds)},
            }
        )
    return JSONResponse({"text": text, **_told(serving, given, found), "usage": _usage(serving, recording, found)})


async def _lines(
    serving: Serving, given: TranscriptionRequest, recording: Recording, segments: AsyncIterator[Segment]
) -> AsyncIterator[str]:
    """As OpenAI's server-sent events."""
    found: list[Segment] = []
    told = False  # anything of the last of them
    try:
        async for segment in segments:
            if not found or segment is not found[-1]:
                found.append(segment)
                told = False
            if segment.new:
                space = " " if not told and any(one.text for one in found[:-1]) else ""
                told = True
                yield _line({"type": "transcript.text.delta", "delta": space + segment.new})
        done = {"type": "transcript.text.done", "text": _text(found), **_told(serving, given, found)}
        yield _line(done | {"usage": _usage(serving, recording, found)})
    except Exception as problem:
        yield _line({"type": "error", **_said(serving, problem)})


def _said(serving: Serving, problem: Exception) -> dict:
    if isinstance(problem, Refused):
        return {"error": {"message": str(problem), "type": "invalid_request_error", "param": None, "code": problem.code}}
    if isinstance(problem, Busy):
        return {"error": {"message": "too many requests wait already", "type": "rate_limit_error", "param": None, "code": None}}
    return problem_said(problem, "transcription")


def _told(serving: Serving, given: TranscriptionRequest, found: Sequence[Segment]) -> dict:
    """`logprobs`, where they are asked for and there are some."""
    if not given.include:
        return {}
    content = [one for each in found if each.likely for one in logprobs(serving.model.names, each.ids, each.likely)["content"]]
    return {"logprobs": [{name: one[name] for name in ("token", "bytes", "logprob")} for one in content]}


def _usage(serving: Serving, recording: Recording, found: Sequence[Segment]) -> dict:
    if serving.prompts.transcription is None:
        return {"type": "duration", "seconds": round(recording.seconds)}
    prompt, written = summed([one.prompt for one in found if one.prompt]), sum(len(one.ids) for one in found)
    asked = sum(prompt.values())
    counts = {"type": "tokens", "input_tokens": asked, "output_tokens": written, "total_tokens": asked + written}
    return counts | {"input_token_details": {"audio_tokens": prompt["speech"], "text_tokens": prompt["text"]}}


def _text(found: Sequence[Segment]) -> str:
    return " ".join(one.text for one in found if one.text)


def _subtitles(found: Sequence[Segment], point: str) -> str:
    lines = []
    for number, one in enumerate([one for one in found if one.text], start=1):
        head = f"{number}\n" if point == "," else ""
        lines.append(f"{head}{_clock(one.start, point)} --> {_clock(one.end, point)}\n{one.text}\n")
    return "\n".join(lines)


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _line(content: dict) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
