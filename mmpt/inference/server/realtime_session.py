"""A realtime session: the sound that comes in, the conversation, and the one response at a time."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pydantic

from mmpt.chat import Coded, Said
from mmpt.document import Image, Speech, Text
from mmpt.errors import DataError, MmptError
from mmpt.inference.decoding import spoken
from mmpt.inference.server import realtime_events as events
from mmpt.inference.server.errors import Refused, mistakes
from mmpt.inference.server.limits import Budget
from mmpt.inference.server.realtime_conversation import Conversation, Item, whole
from mmpt.inference.server.realtime_response import Reason, Response, Send, reads
from mmpt.inference.server.realtime_sound import Kept, Listener, SoundIn, encoded
from mmpt.inference.server.request import ImagePart, ImageUrl, picture
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.shares import CLIENT, Held
from mmpt.media import resampled
from mmpt.modality import SAMPLE_RATE

LOG = logging.getLogger("mmpt.serve")
SHORTEST = 0.1
"""Seconds of sound, at least, that are a turn."""
SLACK = SAMPLE_RATE // 5
"""Samples that are kept beside those that stand before speech: by so much the detector may be late."""

MARGIN = SAMPLE_RATE // 10
"""Samples of silence about speech that is read for its transcript: tokenizers of cut utterances read words into more."""


def name(kind: str) -> str:
    """A new id."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


class RealtimeSession:
    """`take` each message of the client; `close` at the end."""

    def __init__(self, serving: Serving, send: Send) -> None:
        """`send(type, **fields)` tells the client of an event."""
        self._serving, self._send = serving, send
        self.id, self._conversation_id = name("sess"), name("conv")
        can_speak = serving.model.tokenizer.speech is not None
        self._session = events.Session(model=serving.name, output_modalities=["audio" if can_speak else "text"])
        self._held = Held(serving.held, CLIENT.get())
        self._conversation = Conversation(serving.limits, lambda held: self._held.be(held + self._kept.bytes))
        self._kept, self._in = Kept(), SoundIn(self._session.audio.input.format)
        self._listener: Listener | None = None
        self._turn: str | None = None  # the id of the item that is being spoken
        self._begun = 0  # the sample where that began
        self._response: Response | None = None
        self._responses: set[Response] = set()
        self._tasks: set[asyncio.Task] = set()
        self._handlers: dict[type, Callable[[Any], Coroutine[Any, Any, None]]] = {
            events.SessionUpdate: self._update,
            events.Append: self._append,
            events.Commit: self._commit,
            events.Clear: self._clear,
            events.ItemCreate: self._create,
            events.ItemRetrieve: self._retrieve,
            events.ItemDelete: self._delete,
            events.ItemTruncate: self._truncate,
            events.ResponseCreate: self._respond,
            events.ResponseCancel: self._cancel,
        }

    async def open(self) -> None:
        await self._send("session.created", session=self._shown)
        await self._send("conversation.created", conversation={"id": self._conversation_id, "object": "realtime.conversation"})

    async def take(self, message: str | bytes) -> None:
        """Do what a message asks for; what is wrong in it is told."""
        told: str | None = None
        try:
            event = await self._serving.read(events.EVENT.validate_json, message)
            told = event.event_id
            Budget(self._serving.limits).text(len(message) - events.media(event))
            await self._handlers[type(event)](event)
        except Refused as problem:
            await self.error(str(problem), problem.code, told)
        except pydantic.ValidationError as problem:
            await self.error(mistakes(problem), None, told)
        except MmptError as problem:
            await self.error(str(problem), None, told)

    async def error(self, message: str, code: str | None = None, told: str | None = None) -> None:
        """`told`: the id of the client's event that is wrong."""
        found = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": told}
        await self._send("error", error=found)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(one.cancel(None) for one in self._responses), return_exceptions=True)
        self._held.be(0)

    @property
    def _shown(self) -> dict[str, Any]:
        return {"id": self.id, "object": "realtime.session", **self._session.model_dump(mode="json")}

    @property
    def _vad(self) -> events.ServerVad | None:
        return self._session.audio.input.turn_detection

    async def _update(self, event: events.SessionUpdate) -> None:
        found = self._session.updated(event.session)
        self._serving.known(found.model)
        hearing, before = found.audio.input, self._session.audio.input
        if hearing.transcription is not None:
            if not reads(self._serving.model.tokenizer.speech):
                raise DataError("audio.input.transcription: this model's speech tokenizer does not read")
            self._serving.known(hearing.transcription.model)
        if hearing.format != before.format:
            self._in = SoundIn(hearing.format)
        if hearing.turn_detection != before.turn_detection:
            self._listener, self._turn = None, None
        self._session = found
        await self._send("session.updated", session=self._shown)

    # ---- sound
    async def _append(self, event: events.Append) -> None:
        limit = self._serving.limits.sound
        # Told by its length, before it is decoded.
        if 0.75 * len(event.audio) > limit * 2 * 24_000:
            raise DataError(f"audio: more than {limit:g} s in one event")
        samples = await self._serving.read(self._in.push, event.audio)
        if self._vad is None:
            if self._kept.seconds + len(samples) / SAMPLE_RATE > limit:
                raise Refused(400, f"more than {limit:g} s of sound wait to be committed", "input_audio_buffer_full")
            self._keep(samples)
            return
        await self._listen(samples, self._vad, limit)

    def _keep(self, samples: np.ndarray) -> None:
        """Raises `Refused` where the client holds too much here already."""
        if not self._held.be(self._conversation.held + self._kept.bytes + samples.nbytes):
            raise Refused(429, "too much sound and too many pictures are kept for you", "rate_limit_exceeded")
        self._kept.push(samples)

    async def _listen(self, samples: np.ndarray, vad: events.ServerVad, limit: float) -> None:
        """Take the turns that the sound tells of."""
        listener = self._listener or await self._serving.read(Listener, vad, self._kept.total)
        self._listener = listener
        padding = vad.prefix_padding_ms * SAMPLE_RATE // 1000
        self._keep(samples)
        for turn in await self._serving.read(listener.push, samples):
            if turn.begins:
                self._kept.take(turn.at - padding)
                self._turn, self._begun = name("item"), turn.at
                start = self._kept.first * 1000 // SAMPLE_RATE
                await self._send("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self._turn)
                if vad.interrupt_response and self._running:
                    await self._stop("turn_detected")
            elif self._turn is not None:
                # As much silence behind as before: what is longer tells nothing.
                silence = min(vad.silence_duration_ms, vad.prefix_padding_ms) * SAMPLE_RATE // 1000
                await self._stopped_speaking(turn.at, min(turn.at + silence, self._kept.total), vad)
        if self._turn is None:
            self._kept.take(self._kept.total - padding - SLACK)
        elif self._kept.seconds > limit:
            await self._stopped_speaking(self._kept.total, self._kept.total, vad)
            self._listener = None

    async def _stopped_speaking(self, last: int, end: int, vad: events.ServerVad) -> None:
        """Speech ended at sample `last`; the turn is what is kept up to `end`."""
        item, self._turn = self._turn, None
        edges = (self._begun - MARGIN - self._kept.first, last + MARGIN - self._kept.first)
        await self._send("input_audio_buffer.speech_stopped", audio_end_ms=end * 1000 // SAMPLE_RATE, item_id=item)
        await self._heard(self._kept.take(end), item, slice(*(max(0, edge) for edge in edges)))
        if vad.create_response:
            await self._answer(events.asked_by(self._session, None))

    async def _commit(self, _: events.Commit) -> None:
        rest = await self._serving.read(self._in.push, "", True)
        self._in = SoundIn(self._session.audio.input.format)
        self._keep(rest)
        if self._kept.seconds < SHORTEST:
            code = "input_audio_buffer_commit_empty"
            raise Refused(400, f"{self._kept.seconds * 1000:.0f} ms of sound, expected {SHORTEST * 1000:.0f} at least", code)
        item, self._turn, self._listener = self._turn, None, None
        await self._heard(self._kept.take(self._kept.total), item)

    async def _heard(self, sound: np.ndarray, item_id: str | None, speech: slice = slice(None)) -> None:  # noqa: B008 (frozen)
        """A turn of the user's is over, in which `speech` is more than silence."""
        item = Item(item_id or name("item"), "user", [{"type": "input_audio", "transcript": None}], sound=sound, speech=speech)
        item.said = [await self._serving.read(self._coded, spoken(sound, SAMPLE_RATE), media=True)]
        await self._send("input_audio_buffer.committed", item_id=item.id, previous_item_id=self._conversation.last)
        await self._add(item, None)
        if self._session.audio.input.transcription is not None:
            task = asyncio.ensure_future(self._transcribe(item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _coded(self, part: Speech | Image) -> Said:
        """A medium by its ids, so that it is encoded once; as it is where it enters as features."""
        model, kind = self._serving.model, "speech" if isinstance(part, Speech) else "image"
        if model.inputs is not None and kind in model.inputs.counted:
            return part
        ((ids,),) = model.tokenizer.encode([[part]])
        return Coded(tuple(ids), "user")

    async def _transcribe(self, item: Item) -> None:
        speech, place = self._serving.model.tokenizer.speech, {"item_id": item.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        sound = item.sound
        assert reads(speech) and sound is not None
        try:
            (text,) = await self._serving.decoded(lambda: speech.recognize([sound[item.speech]]))
        except Exception:
            LOG.exception("%s: could not be transcribed", item.id)
            failure = {"type": "server_error", "code": None, "message": "it could not be transcribed", "param": None}
            await self._send(f"{kind}.failed", **place, error=failure)
            return
        item.content[0]["transcript"] = text
        if text:
            await self._send(f"{kind}.delta", **place, delta=text)
        seconds = len(sound) / SAMPLE_RATE
        await self._send(f"{kind}.completed", **place, transcript=text, usage={"type": "duration", "seconds": seconds})

    async def _clear(self, _: events.Clear) -> None:
        self._kept.take(self._kept.total)
        self._turn, self._listener = None, None
        await self._send("input_audio_buffer.cleared")

    # ---- the conversation
    async def _create(self, event: events.ItemCreate) -> None:
        item = await self._item(event.item, Budget(self._serving.limits))
        await self._add(item, event.previous_item_id)

    async def _add(self, item: Item, after: str | None) -> None:
        before, gone = self._conversation.add(item, after)
        for kind in ("added", "done"):
            await self._send(f"conversation.item.{kind}", previous_item_id=before, item=item.shown)
        for one in gone:
            await self._send("conversation.item.deleted", item_id=one.id)

    async def _item(self, message: Any, budget: Budget) -> Item:
        """A message of the client's as an item."""
        item, limits = Item(message.id or name("item"), message.role), self._serving.limits
        if len(message.content) > limits.media:
            raise DataError(f"item.content: {len(message.content)} parts, at most {limits.media}")
        for part in message.content:
            if isinstance(part, events.InputAudio | events.InputImage):
                budget.medium()
            if isinstance(part, events.InputAudio):
                sound = await self._serving.read(SoundIn(self._session.audio.input.format).push, part.audio, True)
                if not SHORTEST <= len(sound) / SAMPLE_RATE <= limits.sound:
                    seconds = f"{SHORTEST:g} to {limits.sound:g} s"
                    raise DataError(f"item.content: audio of {len(sound) / SAMPLE_RATE:.2f} s, expected {seconds}")
                budget.seconds(len(sound) / SAMPLE_RATE)
                item.sound = sound
                item.said.append(await self._serving.read(self._coded, spoken(sound, SAMPLE_RATE), media=True))
            elif isinstance(part, events.InputImage):
                given = ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url))
                shown = await self._serving.read(picture, given, limits)
                budget.pixels(shown.width * shown.height)
                item.said.append(await self._serving.read(self._coded, shown, media=True))
            else:
                budget.text(len(part.text))
                item.said.append(Text(part.text))
            item.content.append(part.model_dump(mode="json", exclude={"audio", "image_url"}))
        return item

    async def _retrieve(self, event: events.ItemRetrieve) -> None:
        item = self._conversation.find(event.item_id)
        shown, sound = item.shown, item.sound
        if sound is not None:
            form = self._session.audio.input.format
            audio = await self._serving.read(lambda: encoded(resampled(sound, SAMPLE_RATE, form.rate), form))
            content = [{**one, "audio": audio} if one["type"] == "input_audio" else one for one in item.content]
            shown = {**shown, "content": content}
        await self._send("conversation.item.retrieved", item=shown)

    async def _delete(self, event: events.ItemDelete) -> None:
        self._settled(event.item_id)
        self._conversation.delete(event.item_id)
        await self._send("conversation.item.deleted", item_id=event.item_id)

    async def _truncate(self, event: events.ItemTruncate) -> None:
        item, seconds = self._conversation.find(event.item_id), event.audio_end_ms / 1000
        if item.role != "assistant" or not item.seconds:
            raise DataError(f"item_id: {item.id!r} is no spoken answer")
        if seconds > item.seconds + 0.01:
            raise DataError(f"audio_end_ms: {event.audio_end_ms}, but the sound lasts {item.seconds * 1000:.0f} ms")
        self._settled(item.id)
        item.ids = whole(self._serving.model.tokenizer.vocabulary, item.ids, seconds)
        item.said = [Coded(tuple(item.ids))] if item.ids else []
        item.seconds, item.status = seconds, "incomplete"
        item.content = [{"type": "output_audio", "transcript": ""}]
        await self._send("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=event.audio_end_ms)

    def _settled(self, item_id: str) -> None:
        """Raises `DataError` on an item that is still being written."""
        if self._conversation.find(item_id).status == "in_progress":
            raise DataError(f"item_id: {item_id!r} is still being written; response.cancel comes first")

    # ---- responses
    async def _respond(self, event: events.ResponseCreate) -> None:
        await self._answer(events.asked_by(self._session, event.response))

    async def _answer(self, asked: events.Asked) -> None:
        own = asked.conversation == "auto"
        if own and self._running:
            raise Refused(400, "a response is being written already", "conversation_already_has_active_response")
        self._responses = {one for one in self._responses if not one.done}
        if len(self._responses) >= self._serving.limits.responses:
            raise Refused(429, f"{len(self._responses)} responses are being written already", "rate_limit_exceeded")
        if asked.input is None:
            items = list(self._conversation)
        else:
            items = await self._given(asked.input)
        place = (self._conversation_id, self._conversation) if own else None
        shorten = self._session.truncation == "auto"
        response = Response(name, self._serving, self._send, asked, items, place, shorten)
        response.begin()
        self._responses.add(response)
        if own:
            self._response = response
        await asyncio.sleep(0)  # it has begun: from now on it can be broken off

    async def _given(self, asked: Sequence[Any]) -> list[Item]:
        """Messages and references to items, together within what one request may bring."""
        budget, found = Budget(self._serving.limits), list[Item]()
        if len(asked) > self._serving.limits.items:
            raise DataError(f"response.input: {len(asked)} items, at most {self._serving.limits.items}")
        for one in asked:
            if isinstance(one, events.Reference):
                found.append(self._conversation.find(one.id))
                budget.text(found[-1].characters)
                for _ in range(found[-1].media):
                    budget.medium()
            else:
                found.append(await self._item(one, budget))
        return found

    async def _cancel(self, event: events.ResponseCancel) -> None:
        if event.response_id is None:
            found = self._response if self._running else None
        else:
            found = next((one for one in self._responses if one.id == event.response_id and not one.done), None)
        if found is None:
            raise Refused(400, "no response is being written", "response_cancel_not_active")
        await found.cancel("client_cancelled")

    @property
    def _running(self) -> bool:
        return self._response is not None and not self._response.done

    async def _stop(self, reason: Reason) -> None:
        if self._response is not None:
            await self._response.cancel(reason)
