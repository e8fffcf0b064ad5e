"""Answers in the form of OpenAI's chat completions, with one list of parts for all that comes out.

message.content: the text; message.parts: all in order, in the form in which they may be sent back; message.audio
"""

import base64
import io
import wave
from collections.abc import Iterator, Sequence
from typing import Any

from mmpt.document import Image, Speech, Text
from mmpt.inference.events import AudioDelta, Event, PartDone, TextDelta


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
    found: dict[str, Any] = {
        "role": "assistant",
        "content": " ".join(one.content.text for one in parts if isinstance(one.content, Text)),
    }
    found |= {"parts": [answer_part(one, ids[one.part]) for one in parts], "ids": [i for own in ids.values() for i in own]}
    sounds = [one.content.data for one in parts if isinstance(one.content, Speech)]
    if sounds:
        data = base64.b64encode(_joined(sounds)).decode()
        found["audio"] = {"id": f"audio-{name}", "data": data, "format": "wav", "transcript": found["content"]}
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
