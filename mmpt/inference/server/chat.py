"""`POST /v1/chat/completions`."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mmpt.chat import Said
from mmpt.document import Text
from mmpt.errors import DataError, MmptError
from mmpt.inference.engine import Prompt
from mmpt.inference.events import Event
from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.answer import Answer, Stream, asked, drained, problem_said
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.messages import Deltas, logprobs, message, text_of
from mmpt.inference.server.request import ChatRequest
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.tokens import summed, usage
from mmpt.inference.settings import Settings

Events = AsyncIterator[tuple[Answer, list[Event] | None]]
LIGHT = 100_000
"""Bytes of a body; text alone is seldom as long."""


def chat_routes(serving: Serving) -> APIRouter:
    """The route of chat completions."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        until = serving.enter(request)
        given, prompt, settings = await _understood(serving, request)
        stack = AsyncExitStack()
        answers, events = await asked(serving, stack, [(prompt, one) for one in settings], until, given.stop)
        told = _Told(serving, given, prompt, answers)
        if given.stream:
            return Stream(told.lines(events), stack, until)
        async with stack:
            problem = await drained(request, events)
        return problem or JSONResponse(await told.whole())

    return router


class _Told:
    """The answers to one request as its client is told of them."""

    def __init__(self, serving: Serving, given: ChatRequest, prompt: Prompt, answers: Sequence[Answer]) -> None:
        self._serving, self._given, self._prompt, self._answers = serving, given, prompt, answers
        self._name, self._created = f"chatcmpl-{answers[0].name}", int(time.time())
        self._told = dict.fromkeys(answers, 0)  # how many of the ids of each

    async def whole(self) -> dict:
        """All at once."""
        choices = []
        for answer in self._answers:
            transcript = await self._serving.decoded(lambda one=answer: _transcript(self._serving.model, one))
            said = message(answer, self._given.return_token_ids, self._given.audio.file, transcript)
            ids = [token for event in answer.events for token in event.ids]
            choice = {"index": answer.index, "message": said, "finish_reason": answer.reason}
            choices.append(choice | self._of_tokens(answer, ids))
        found = self._json("chat.completion", choices) | {"usage": self._usage()}
        return found | ({"prompt_token_ids": self._prompt.ids} if self._given.return_token_ids else {})

    async def lines(self, events: Events) -> AsyncIterator[str]:
        """As server-sent events; where usage is asked for, a last one of it alone."""
        deltas = {answer: Deltas(answer) for answer in self._answers}
        options = self._given.stream_options
        with_usage = options is not None and options.include_usage
        empty: dict[str, Any] = {"usage": None} if with_usage else {}

        def line(answer: Answer, delta: dict, ids: Sequence[int] = (), reason: str | None = None) -> str:
            choice = {"index": answer.index, "delta": delta, "finish_reason": reason} | self._of_tokens(answer, ids)
            return _line(self._json("chat.completion.chunk", [choice]) | empty)

        told = ""  # what is known at once is sent at once: each piece costs as much as what is in it
        try:
            for number, answer in enumerate(self._answers):
                first = line(answer, {"role": "assistant", "content": ""})
                if not number and self._given.return_token_ids:
                    first = _line(json.loads(first.removeprefix("data: ")) | {"prompt_token_ids": self._prompt.ids})
                told += first
            async for answer, found in events:
                told += "".join(line(answer, delta, ids) for delta, ids in deltas[answer](found or ()))
                if found is None:
                    told += "".join(line(answer, delta) for delta in deltas[answer].last())
                    told += line(answer, {}, reason=answer.reason)
                elif told:
                    yield told
                    told = ""
            if with_usage:
                told += _line(self._json("chat.completion.chunk", []) | {"usage": self._usage()})
        except Exception as problem:
            told += _line(problem_said(problem))
        yield told + "data: [DONE]\n\n"

    def _json(self, kind: str, choices: list[dict]) -> dict:
        return {
            "id": self._name,
            "object": kind,
            "created": self._created,
            "model": self._serving.name,
            "choices": choices,
        }

    def _of_tokens(self, answer: Answer, ids: Sequence[int]) -> dict:
        """`logprobs` of a choice, of its next `ids`, and these themselves, where they are asked for."""
        found: dict[str, Any] = {"logprobs": None}
        if self._given.logprobs and ids:
            start = self._told[answer]
            found["logprobs"] = logprobs(self._serving.model.names, ids, answer.likely[start : start + len(ids)])
        self._told[answer] += len(ids)
        return found | ({"token_ids": list(ids)} if self._given.return_token_ids else {})

    def _usage(self) -> dict:
        return usage(self._answers[0].prompt, summed([answer.written for answer in self._answers]))


def _line(content: dict) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _transcript(model: MultimodalModel, answer: Answer) -> str | None:
    """What is said in an answer without text, as the speech tokenizer's own text decoder reads its codes; None where there is
    none."""
    read = getattr(model.tokenizer.speech, "transcribe", None)
    if read is None or not answer.has_media or text_of(answer.events) is not None:
        return None
    split = model.tokenizer.vocabulary.split([token for event in answer.events for token in event.ids])
    codes = [np.asarray(values) for kind, values in split if kind == "speech" and len(values)]
    return " ".join(read(codes)) if codes else None


async def _understood(serving: Serving, request: Request) -> tuple[ChatRequest, Prompt, list[Settings]]:
    """The request as the engine takes it. Raises `Refused`."""
    body = await serving.body(request, "application/json")
    given, settings, parts, prompt = await serving.read(_light, serving, body)
    if parts is None:
        parts = await serving.read(_parts, serving, given, media=True, asker=request)
    if prompt is None:
        prompt = await serving.read(_prompt, serving, given, parts, media=not _text_alone(parts), asker=request)
    return given, prompt, fitted(serving, prompt, settings)


def _light(serving: Serving, body: bytes) -> tuple[ChatRequest, list[Settings], list[Said] | None, Prompt | None]:
    """What is soon read of a request, at once: each turn of a thread costs as much as a short text. None for what is not."""
    given = ChatRequest.model_validate_json(body)
    serving.known(given.model)
    settings = given.settings(serving.limits, serving.model)
    if len(body) > LIGHT:
        return given, settings, None, None
    parts = _parts(serving, given)
    return given, settings, parts, _prompt(serving, given, parts) if _text_alone(parts) else None


def _parts(serving: Serving, given: ChatRequest) -> list[Said]:
    return given.parts(serving.limits, serving.model.tokenizer.chat, serving.kept)


def _text_alone(parts: Sequence[Said]) -> bool:
    return all(isinstance(part, Text) for part in parts)


def fitted(serving: Serving, prompt: Prompt, settings: Sequence[Settings]) -> list[Settings]:
    """`settings` that fit into the model's context behind `prompt`. Raises `Refused` where nothing does, and where the prompt
    is longer than may be."""
    most = serving.limits.prompt_tokens
    if len(prompt.ids) > most:
        raise Refused(400, f"the prompt has {len(prompt.ids)} tokens, at most {most} are read", "context_length_exceeded")
    try:
        return [serving.service.fitted(prompt, one) for one in settings]
    except MmptError as problem:
        raise Refused(400, str(problem), "context_length_exceeded") from None


def _prompt(serving: Serving, given: ChatRequest, parts: list[Said]) -> Prompt:
    try:
        (prompt,) = serving.model.prompts([parts])
    except MmptError as problem:
        raise DataError(given.damaged(parts) or str(problem)) from None
    return prompt
