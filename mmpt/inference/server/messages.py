"""Requests and answers in the form of OpenAI's chat completions, with one list of parts for all that comes out.

in:   messages[].content: text, or parts {type: text | image_url (data URL) | input_audio}
out:  message.content: the text; message.parts: all in order, in the form in which they may be sent back; message.audio
"""

import base64
import binascii
import io
import re
import wave
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import pydantic

from mmpt.document import Image, Part, Speech, Text
from mmpt.errors import DataError
from mmpt.inference.events import AudioDelta, Event, PartDone, TextDelta
from mmpt.inference.server.limits import Limits
from mmpt.inference.settings import OUTPUTS, Sampling, Settings
from mmpt.media import decode_image, decode_speech

_DATA_URL = re.compile(r"data:image/(png|jpeg|jpg|webp|gif);base64,", re.ASCII)
MODALITIES = {"text": "text", "image": "image", "audio": "speech"}


class TextPart(pydantic.BaseModel):
    type: Literal["text"]
    text: str


class ImageUrl(pydantic.BaseModel):
    url: str


class ImagePart(pydantic.BaseModel):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(pydantic.BaseModel):
    data: str
    format: Literal["wav", "mp3", "flac", "ogg"] = "wav"


class AudioPart(pydantic.BaseModel):
    type: Literal["input_audio"]
    input_audio: InputAudio


AnyPart = Annotated[TextPart | ImagePart | AudioPart, pydantic.Field(discriminator="type")]


class Message(pydantic.BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[AnyPart]


class ChatRequest(pydantic.BaseModel):
    """What is not named here is ignored, as clients send much that is not ours. Roles are not marked: the parts of all messages
    follow each other. `sampling` replaces `temperature`, `top_p` and `top_k` for a kind of output."""

    messages: list[Message] = pydantic.Field(min_length=1)
    modalities: list[Literal["text", "image", "audio"]] = pydantic.Field(default=["text", "image", "audio"], min_length=1)
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    max_completion_tokens: int | None = pydantic.Field(default=None, ge=1)
    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    sampling: dict[Literal["text", "image", "audio"], Sampling] = {}
    guidance: float = pydantic.Field(default=1.0, ge=0, le=100)
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    seed: int = pydantic.Field(default=0, ge=0)
    stream: bool = False
    n: Literal[1] = 1

    def settings(self, limits: Limits) -> Settings:
        """As the engine takes them. Raises `DataError` on what goes beyond `limits`, `ValueError` on what does not go
        together."""
        asked = self.max_completion_tokens or self.max_tokens or min(512, limits.new_tokens)
        if asked > limits.new_tokens:
            raise DataError(f"max_tokens: {asked}, at most {limits.new_tokens} are written")
        common = Sampling(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)
        each = {own: self.sampling.get(name, common) for name, own in MODALITIES.items()}
        outputs = tuple(name for name in OUTPUTS if name in {MODALITIES[one] for one in self.modalities})
        return Settings(
            outputs=outputs,
            max_new_tokens=asked,
            guidance=self.guidance,
            alternate=self.alternate,
            seed=self.seed % (1 << 62),
            **each,
        )

    def parts(self, limits: Limits) -> list[Part]:
        """The prompt. Raises `DataError`, naming the place, where a medium cannot be decoded or is too large."""
        found: list[Part] = []
        for number, message in enumerate(self.messages):
            content = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
            for place, part in enumerate(content):
                try:
                    found.append(_part(part, limits))
                except DataError as problem:
                    raise DataError(f"messages.{number}.content.{place}: {problem}") from None
        return found


def _part(part: TextPart | ImagePart | AudioPart, limits: Limits) -> Part:
    if isinstance(part, TextPart):
        return Text(part.text)
    if isinstance(part, ImagePart):
        opening = _DATA_URL.match(part.image_url.url[:40])
        if not opening:
            raise DataError("image_url.url: expected a data URL (data:image/png;base64,…); nothing is fetched from elsewhere")
        data = _bytes(part.image_url.url[opening.end() :])
        picture = decode_image(data, limits.pixels)
        return Image(data, opening[1].replace("jpeg", "jpg"), picture.width, picture.height)
    data = _bytes(part.input_audio.data)
    samples = decode_speech(data, max_seconds=limits.sound)
    return Speech(data, part.input_audio.format, 16_000, len(samples) / 16_000)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise DataError(f"no base64 ({problem})") from None


def answer_part(event: PartDone, ids: Sequence[int]) -> dict:
    """A whole part, in the form in which it may be sent back."""
    content, base = event.content, {"index": event.part, "ids": list(ids)}
    if isinstance(content, Text):
        return {**base, "type": "text", "text": content.text}
    data = base64.b64encode(content.data).decode()
    if isinstance(content, Image):
        return {**base, "type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {**base, "type": "input_audio", "input_audio": {"data": data, "format": "wav"}, "duration": content.duration}


def message(events: Sequence[Event], name: str) -> dict:
    """The answer as a whole, of all its events."""
    ids: dict[int, list[int]] = {}
    for event in events:
        ids.setdefault(event.part, []).extend(event.ids)
    parts = [event for event in events if isinstance(event, PartDone)]
    found = {"role": "assistant", "content": " ".join(one.content.text for one in parts if isinstance(one.content, Text))}
    found |= {"parts": [answer_part(one, ids[one.part]) for one in parts], "ids": [i for own in ids.values() for i in own]}
    sounds = [one.content.data for one in parts if isinstance(one.content, Speech)]
    if sounds:
        found["audio"] = {"id": f"audio-{name}", "data": base64.b64encode(_joined(sounds)).decode(), "format": "wav"}
    return found


def deltas(events: Sequence[Event], name: str) -> Iterator[dict]:
    """`delta` objects of a stream: text as `content`, sound as `audio.data` (16-bit PCM, as OpenAI streams it), a whole
    picture as a part; each with the index of its part and its ids."""
    for event in events:
        base = {"part": event.part, "ids": list(event.ids)}
        if isinstance(event, TextDelta):
            yield {**base, "type": "text", "content": event.text}
        elif isinstance(event, AudioDelta):
            pcm = (event.samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
            audio = {"id": f"audio-{name}", "data": base64.b64encode(pcm).decode(), "sample_rate": event.sample_rate}
            yield {**base, "type": "input_audio", "audio": audio}
        elif isinstance(event.content, Image):
            yield {**base, **{key: value for key, value in answer_part(event, event.ids).items() if key != "index"}, "done": True}
        else:
            yield {**base, "type": "text" if isinstance(event.content, Text) else "input_audio", "done": True}


def _joined(sounds: Sequence[bytes]) -> bytes:
    """One WAV of several of the same format."""
    out = io.BytesIO()
    with wave.open(out, "wb") as target:
        for number, sound in enumerate(sounds):
            with wave.open(io.BytesIO(sound)) as source:
                if not number:
                    target.setparams(source.getparams())
                target.writeframes(source.readframes(source.getnframes()))
    return out.getvalue()
