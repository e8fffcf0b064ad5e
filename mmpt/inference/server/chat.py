"""`POST /v1/chat/completions`."""

import uuid
from contextlib import AsyncExitStack

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mmpt.chat import Said
from mmpt.document import Text
from mmpt.errors import DataError, MmptError
from mmpt.inference.engine import Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.answer import Answer, Stream, answering, lines, whole
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.request import ChatRequest
from mmpt.inference.server.service import Busy
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.settings import Settings


def chat_routes(serving: Serving) -> APIRouter:
    """The route of chat completions."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        serving.allow(request)
        until = serving.until
        if serving.service.full:  # before its body is read
            return serving.busy()
        asked, prompt, settings = await _understood(serving, request)
        answer = Answer(f"chatcmpl-{uuid.uuid4().hex}", serving.name, prompt, settings)
        stack = AsyncExitStack()
        try:
            written = await stack.enter_async_context(serving.service.writing(prompt, settings))
        except Busy:
            return serving.busy()
        found = answering(serving, written, StopWords(asked.stop), until, answer)
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return Stream(lines(found, answer, usage), stack, until)
        async with stack:
            return await whole(request, found, answer)

    return router


async def _understood(serving: Serving, request: Request) -> tuple[ChatRequest, Prompt, Settings]:
    """The request as the engine takes it. Raises `Refused`."""
    model, limits = serving.model, serving.limits
    body = await serving.body(request, "application/json")
    asked = await serving.read(ChatRequest.model_validate_json, body)
    serving.known(asked.model)
    settings = await serving.read(asked.settings, limits)
    heavy = len(body) > 100_000  # text alone is seldom as long
    parts = await serving.read(asked.parts, limits, model.tokenizer.chat, serving.kept, media=heavy)
    spoken = any(not isinstance(part, Text) for part in parts)
    prompt = await serving.read(_prompt, asked, parts, model, limits, media=spoken)
    try:
        return asked, prompt, serving.service.fitted(prompt, settings)
    except MmptError as problem:
        raise Refused(400, str(problem), "context_length_exceeded") from None


def _prompt(asked: ChatRequest, parts: list[Said], model: MultimodalModel, limits: Limits) -> Prompt:
    try:
        (prompt,) = model.prompts([parts])
    except MmptError as problem:
        raise DataError(asked.damaged(parts) or str(problem)) from None
    if len(prompt.ids) > limits.prompt_tokens:
        reason = f"the prompt has {len(prompt.ids)} tokens, at most {limits.prompt_tokens} are read"
        raise Refused(400, reason, "context_length_exceeded")
    return prompt
