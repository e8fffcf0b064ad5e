"""One response of a realtime session: written by the engine, told in OpenAI's events as it comes, broken off at any moment."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, TypeGuard

import numpy as np

from mmpt.chat import Coded, Said
from mmpt.document import Text
from mmpt.errors import MmptError
from mmpt.inference.engine import Prompt
from mmpt.inference.events import AudioDelta, Event, TextDelta
from mmpt.inference.server.answer import Answer, answering
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.realtime_conversation import Conversation, Item, beginnings, longest, prompt, whole
from mmpt.inference.server.realtime_events import Asked
from mmpt.inference.server.realtime_sound import SoundOut
from mmpt.inference.server.service import Busy
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.settings import Settings
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.vocabulary import Vocabulary

LOG = logging.getLogger("mmpt.serve")
Reason = Literal["turn_detected", "client_cancelled"]


class Send(Protocol):
    """Tells the client of an event."""

    def __call__(self, kind: str, **fields: Any) -> Awaitable[None]: ...


class Response:
    """`begin` it; `cancel` it at any time. `item`: what it says, which is in `conversation` where it has one."""

    def __init__(
        self,
        name: Callable[[str], str],
        serving: Serving,
        send: Send,
        asked: Asked,
        items: Sequence[Item],
        conversation: tuple[str, Conversation] | None,
        shorten: bool,
    ) -> None:
        """`name` makes ids. It answers `items`; `shorten`: the oldest of them are left out where they are too many to read."""
        self.id, self.item = name("resp"), Item(name("item"), "assistant", status="in_progress")
        self._serving, self._tell, self._asked, self._items = serving, send, asked, list(items)
        self._conversation, self._shorten = conversation, shorten
        self._out = SoundOut(asked.audio.output.format, speech.sound_rate) if (speech := serving.model.tokenizer.speech) else None
        self._text = ""
        self._usage: dict[str, Any] | None = None
        self._status, self._details = "in_progress", None
        self._reason: Reason | None = None
        self._writing = True  # until its last events are on their way

    def begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    @property
    def done(self) -> bool:
        return self._task.done()

    async def cancel(self, reason: Reason | None) -> None:
        """Break it off, its place in the engine is free at once; returns when its last event is told. None: nobody is told."""
        if reason is None:
            self._task.cancel()
        elif self._writing and self._reason is None:
            self._reason = reason
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        await self._send("response.created", response=self._shown)
        await self._opened()
        try:
            await self._write()
        except asyncio.CancelledError:
            if self._reason is None:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            self._end("cancelled", {"type": "cancelled", "reason": self._reason})
        except (MmptError, Refused, Busy) as problem:
            code = problem.code if isinstance(problem, Refused) else None
            self._failed(str(problem) or "too many requests wait or run already", "invalid_request_error", code)
        except Exception:
            LOG.exception("%s: the response could not be written", self.id)
            self._failed("the response could not be written", "server_error", None)
        self._writing = False
        await self._closed()

    async def _write(self) -> None:
        prompt, settings = await self._understood()
        answer = Answer(self._serving, self.id, prompt, settings)
        try:
            async with self._serving.service.writing(prompt, settings) as written:
                async for events in answering(self._serving, written, StopWords(()), self._serving.until, answer):
                    await self._pass(events)
            if self._spoken and not self._text:
                await self._more_text(await self._heard())
        finally:
            self._usage = usage(self._serving.model.tokenizer.vocabulary, prompt.ids, self.item.ids)
        cut = answer.reason == "length"
        details = {"type": "incomplete", "reason": "max_output_tokens"} if cut else None
        self._end("incomplete" if cut else "completed", details)

    async def _understood(self) -> tuple[Prompt, Settings]:
        """What it answers, as the engine takes it. Raises `Refused`."""
        model, limits = self._serving.model, self._serving.limits
        chat = model.tokenizer.chat
        alternate = chat.format.alternate if chat else None
        asked = self._asked.settings(limits, alternate)
        if self._asked.spoken and self._out is None:
            raise Refused(400, "output_modalities: this model does not speak")

        async def read_from(start: int) -> tuple[Prompt, Settings] | Refused | MmptError:
            said = prompt(self._items[start:], self._asked.instructions, chat is not None)
            (found,) = await self._serving.read(model.prompts, [said], media=not all(map(_light, said)))
            if len(found.ids) > limits.prompt_tokens:
                return Refused(400, f"{len(found.ids)} tokens of conversation, at most {limits.prompt_tokens} are read")
            try:
                return found, self._serving.service.fitted(found, asked)
            except (Refused, MmptError) as problem:
                return problem

        found = await longest(beginnings(self._items) if self._shorten else [0], read_from)
        if isinstance(found, Exception):
            raise found
        return found

    async def _pass(self, events: Sequence[Event]) -> None:
        """Tell what has come."""
        for event in events:
            if isinstance(event, TextDelta):
                await self._more_text(event.text)
            elif isinstance(event, AudioDelta) and self._out is not None:
                await self._more_sound(self._out, event.samples)
            self.item.ids += event.ids

    async def _more_text(self, text: str) -> None:
        if text:
            self._text += text
            await self._delta("output_audio_transcript" if self._spoken else "output_text", text)

    async def _more_sound(self, out: SoundOut, samples: np.ndarray, last: bool = False) -> None:
        for piece in out.push(samples, last):
            await self._delta("output_audio", piece)
        self.item.seconds = out.seconds

    async def _heard(self) -> str:
        """What it says, where it wrote no text: as the speech tokenizer reads its codes."""
        speech, vocabulary = self._serving.model.tokenizer.speech, self._serving.model.tokenizer.vocabulary
        codes = [codes for kind, codes in vocabulary.split(whole(vocabulary, self.item.ids)) if kind == "speech"]
        if not codes or not reads(speech):
            return ""
        return " ".join(await self._serving.decoded(lambda: speech.transcribe(codes))).strip()

    def _end(self, status: str, details: dict[str, Any] | None) -> None:
        self._status, self._details = status, details

    def _failed(self, message: str, kind: str, code: str | None) -> None:
        self._end("failed", {"type": "failed", "error": {"type": kind, "code": code, "message": message}})

    async def _opened(self) -> None:
        place = {"response_id": self.id, "output_index": 0}
        await self._send("response.output_item.added", **place, item=self.item.shown)
        if self._conversation is not None:
            before, gone = self._conversation[1].add(self.item)
            await self._send("conversation.item.added", previous_item_id=before, item=self.item.shown)
            for item in gone:
                await self._send("conversation.item.deleted", item_id=item.id)
        await self._send("response.content_part.added", **self._place, part=self._part)

    async def _closed(self) -> None:
        if self._spoken:
            if self._out is not None and self._status != "cancelled":
                await self._more_sound(self._out, np.zeros(0, dtype=np.float32), last=True)
            await self._send("response.output_audio.done", **self._place)
            await self._send("response.output_audio_transcript.done", **self._place, transcript=self._text)
        else:
            await self._send("response.output_text.done", **self._place, text=self._text)
        await self._send("response.content_part.done", **self._place, part=self._part)
        self.item.status = "completed" if self._status == "completed" else "incomplete"
        if self._spoken:
            self.item.content = [{"type": "output_audio", "transcript": self._text}]
        else:
            self.item.content = [{"type": "output_text", "text": self._text}]
        self.item.said = said_in(self._serving.model.tokenizer.vocabulary, self.item.ids, self._text)
        await self._send("response.output_item.done", response_id=self.id, output_index=0, item=self.item.shown)
        if self._conversation is not None:
            await self._send("conversation.item.done", item=self.item.shown)
        await self._send("response.done", response=self._shown)

    @property
    def _spoken(self) -> bool:
        return self._asked.spoken

    @property
    def _place(self) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": self.item.id, "output_index": 0, "content_index": 0}

    @property
    def _part(self) -> dict[str, Any]:
        return {"type": "audio", "transcript": self._text} if self._spoken else {"type": "text", "text": self._text}

    @property
    def _shown(self) -> dict[str, Any]:
        asked = self._asked
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self._status,
            "status_details": self._details,
            "output": [] if self._status == "in_progress" else [self.item.shown],
            "conversation_id": self._conversation[0] if self._conversation else None,
            "output_modalities": asked.output_modalities,
            "max_output_tokens": asked.max_output_tokens,
            "audio": {"output": asked.audio.output.model_dump(include={"format", "voice"})},
            "usage": self._usage,
            "metadata": asked.metadata or None,
        }

    async def _delta(self, kind: str, delta: str) -> None:
        await self._send(f"response.{kind}.delta", **self._place, delta=delta)

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._tell(kind, **fields)


def said_in(vocabulary: Vocabulary, ids: Sequence[int], text: str) -> list[Said]:
    """An answer as the model reads it again: by the ids it was written in where it spoke, else as text."""
    found = whole(vocabulary, ids)
    if any(token >= vocabulary.special_offset for token in found):
        return [Coded(tuple(found))]
    return [Text(text)] if text else []


def reads(speech: Any) -> TypeGuard[SpeechTokenizer]:
    """Whether a speech tokenizer can tell the text of its codes."""
    return isinstance(speech, SpeechTokenizer) and speech.config.encoder.learns_text


def usage(vocabulary: Vocabulary, asked: Sequence[int], written: Sequence[int]) -> dict[str, Any]:
    """Tokens of the prompt and of the answer, by their kind; marks count as text."""

    def counts(ids: Sequence[int]) -> dict[str, int]:
        kinds = np.bincount(vocabulary.modality(np.array(ids, dtype=np.int64)), minlength=4).tolist()
        return {"text_tokens": kinds[0] + kinds[1], "audio_tokens": kinds[3], "image_tokens": kinds[2]}

    read, said = counts(asked), counts(written)
    del said["image_tokens"]
    return {
        "input_tokens": len(asked),
        "output_tokens": len(written),
        "total_tokens": len(asked) + len(written),
        "input_token_details": {**read, "cached_tokens": 0},
        "output_token_details": said,
    }


def _light(part: Said) -> bool:
    """Whether it has no medium that is to be encoded."""
    return isinstance(part, Text | Coded)
