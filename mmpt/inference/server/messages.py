"""Answers in the form of OpenAI's chat completions, with one list of parts for all that comes out.

message.content: the text; message.parts: all in order, in the form in which they may be sent back; message.audio: all sound.
Ids stand in it only where they are asked for (`return_token_ids`, as vLLM calls it).
"""

import base64
import io
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import soundfile

from mmpt.document import Image, Speech, Text
from mmpt.inference.adjusting import Likely
from mmpt.inference.events import AudioDelta, Event, PartDone, TextDelta
from mmpt.inference.server import kept
from mmpt.inference.server.answer import Answer
from mmpt.inference.server.sounds import PCM_RATE, PcmWriter, SoundFormat, encoded
from mmpt.inference.token_names import TokenNames

_MANY = -9999.0
"""What OpenAI says of a token that is very unlikely."""


def answer_part(event: PartDone, ids: Sequence[int] | None) -> dict:
    """A whole part, in the form in which it may be sent back."""
    content, base = event.content, {"index": event.part, **({} if ids is None else {"ids": list(ids)})}
    if isinstance(content, Text):
        return {**base, "type": "text", "text": content.text}
    data = base64.b64encode(content.data).decode()
    if isinstance(content, Image):
        return {**base, "type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {**base, "type": "input_audio", "input_audio": {"data": data, "format": "wav"}, "duration": content.duration}


def text_of(events: Sequence[Event]) -> str | None:
    """The text of an answer; None where there is none."""
    texts = [event.content.text for event in events if isinstance(event, PartDone) and isinstance(event.content, Text)]
    return " ".join(texts) if texts else None


def sound_of(events: Sequence[Event]) -> tuple[np.ndarray, int] | None:
    """All sound of an answer, float32 [n], and its rate in Hz; None where there is none."""
    sounds = [event.content.data for event in events if isinstance(event, PartDone) and isinstance(event.content, Speech)]
    read = [soundfile.read(io.BytesIO(sound), dtype="float32") for sound in sounds]
    return (np.concatenate([samples for samples, _ in read]), read[0][1]) if read else None


def message(answer: Answer, with_ids: bool, form: SoundFormat = "wav", transcript: str | None = None) -> dict:
    """The answer as a whole, its sound as a file of `form`. `transcript`: of the sound, where the answer has no text."""
    ids: dict[int, list[int]] = {}
    for event in answer.events:
        ids.setdefault(event.part, []).extend(event.ids)
    done = [event for event in answer.events if isinstance(event, PartDone)]
    text = text_of(answer.events)
    found: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "id": f"msg-{answer.name}"}
    found["parts"] = [answer_part(one, ids[one.part] if with_ids else None) for one in done]
    for part in found["parts"] if with_ids else []:
        if part["type"] == "input_audio":
            part["ids"], blocks = answer.blocks(part["ids"])
            part |= {"alternate": answer.alternate} if blocks > 1 else {}
    if (sound := sound_of(answer.events)) is not None:
        data = base64.b64encode(encoded(*sound, form)).decode()
        said = text if text is not None else transcript or ""
        found["audio"] = {"id": f"audio-{answer.name}", "data": data, "expires_at": expires_at(), "transcript": said}
    return found


def expires_at() -> int:
    """Until when an answer that ends now may be named, in seconds since 1970."""
    return int(time.time()) + kept.SECONDS


class Deltas:
    """`delta` objects of a stream: text as `content`, sound as `audio.data` (16-bit PCM at 24 kHz, as OpenAI streams it), a whole
    picture as a part; each with the index of its part."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._writers: dict[int, PcmWriter] = {}

    def __call__(self, events: Sequence[Event]) -> Iterator[tuple[dict, tuple[int, ...]]]:
        """(delta, its ids) of each."""
        for event in events:
            base = {"part": event.part}
            if isinstance(event, TextDelta):
                yield {**base, "type": "text", "content": event.text}, event.ids
            elif isinstance(event, AudioDelta):
                writer = self._writers.setdefault(event.part, PcmWriter(event.sample_rate))
                yield self._sound(event.part, writer.write(event.samples)), event.ids
            elif isinstance(event.content, Image):
                part = answer_part(event, None)
                del part["index"]
                yield {**base, **part, "done": True}, event.ids
            else:
                if event.part in self._writers:  # what the resampler still holds
                    yield self._sound(event.part, self._writers.pop(event.part).close()), ()
                yield {**base, "type": "text" if isinstance(event.content, Text) else "input_audio", "done": True}, event.ids

    def last(self) -> Iterator[dict]:
        """What is told at the end of an answer: by which ids it may be named, and where it was spoken its text."""
        yield {"id": f"msg-{self._answer.name}"}
        if any(isinstance(event, PartDone) and isinstance(event.content, Speech) for event in self._answer.events):
            told = {"id": f"audio-{self._answer.name}", "expires_at": expires_at()}
            text = text_of(self._answer.events)
            yield {"audio": told if text is None else {**told, "transcript": text}}

    def _sound(self, part: int, pcm: bytes) -> dict:
        data = base64.b64encode(pcm).decode()
        audio = {"id": f"audio-{self._answer.name}", "data": data, "sample_rate": PCM_RATE}
        return {"part": part, "type": "input_audio", "audio": audio}


def logprobs(names: TokenNames, ids: Sequence[int], told: Sequence[Likely]) -> dict:
    """`choices[].logprobs` of tokens, codes and marks among them by their names."""

    def token(number: int, logprob: float) -> dict:
        raw = names.bytes_of(number)
        said = {"token": names.name(number), "bytes": None if raw is None else list(raw)}
        return {**said, "logprob": max(_MANY, logprob)}

    content = [
        {**token(number, one.logprob), "top_logprobs": [token(*other) for other in one.top]}
        for number, one in zip(ids, told, strict=True)
    ]
    return {"content": content, "refusal": None}
