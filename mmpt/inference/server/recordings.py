"""A recording cut into what the model reads at once, and what it reads there."""

import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.inference.adjusting import Likely
from mmpt.inference.events import TextDelta
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.answer import Answer, asked
from mmpt.inference.server.chat import fitted
from mmpt.inference.server.errors import Refused
from mmpt.inference.server.messages import text_of
from mmpt.inference.server.request import RATE
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.tokens import Counts, summed
from mmpt.inference.settings import Settings
from mmpt.media import encode_wav, open_sound, resampled, sized_sound
from mmpt.modality import SAMPLE_RATE
from mmpt.tokenizers.speech.features import heard
from mmpt.tokenizers.speech.long_reading import Piece, merged, pieces
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

BESIDE = 4
"""Windows of one recording that are read side by side."""
MOST_TOKENS = 448
"""Of the text of a window, as Whisper's (Radford et al. 2022, arXiv:2212.04356)."""
WINDOW = 30.0
"""Seconds read at once where nothing is known of what was learned."""
_HOP = 0.08
"""Seconds of a step in which pauses are looked for."""


class Recording(NamedTuple):
    """Samples float32 [n] at 16 kHz."""

    samples: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass
class Segment:
    """What was read of a stretch from `start` to `end`, in seconds; `new`: what of its text is new since it was last told."""

    start: float
    end: float
    text: str = ""
    new: str = ""
    ids: list[int] = field(default_factory=list)
    likely: list[Likely] = field(default_factory=list)
    prompt: Counts = field(default_factory=dict)
    """Tokens of its prompt."""
    over: bool = False

    def json(self, number: int, temperature: float) -> dict:
        """As OpenAI's `segments`; whether anybody speaks is not known by a probability."""
        likely = [one.logprob for one in self.likely]
        raw = self.text.encode()
        return {
            "id": number,
            "seek": round(self.start * 100),
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "tokens": self.ids,
            "temperature": temperature,
            "avg_logprob": sum(likely) / len(likely) if likely else None,
            "compression_ratio": len(raw) / len(zlib.compress(raw)),
            "no_speech_prob": None,
        }


def read_recording(data: bytes, most: float) -> Recording:
    """The bytes of any recording of at most `most` seconds. Raises `DataError`."""
    if data[4:8] != b"ftyp" and data[:4] != b"\x1aE\xdf\xa3":  # MP4 and WebM say their length only as they are read
        data, frames, channels, rate = sized_sound(data, most, int(most * RATE))
        seconds = max(frames / rate, frames * channels / RATE)
        if seconds > most:
            raise DataError(f"audio of {seconds:.0f} s, at most {most:g} s are read")
    samples, rate, _ = open_sound(data, most, int(most * RATE))
    return Recording(resampled(samples, rate, SAMPLE_RATE))


def windows(recording: Recording, longest: float) -> list[Piece]:
    """Stretches of samples of at most `longest` seconds, cut at pauses where there are enough; else they overlap."""
    hop = round(_HOP * SAMPLE_RATE)
    count = -(-len(recording.samples) // hop)
    power = np.pad(np.square(recording.samples), (0, count * hop - len(recording.samples))).reshape(count, hop).mean(axis=1)
    found = pieces(count, max(2, int(longest / _HOP)), np.log(power + 1e-10), 1 / _HOP)
    return [Piece(one.start * hop, min(one.end * hop, len(recording.samples))) for one in found]


def longest(serving: Serving) -> float:
    """Seconds of a recording that the model reads at once: as many as the longest utterance that its own speech tokenizer has
    learned, if nothing else is said."""
    speech = serving.model.tokenizer.speech
    if serving.prompts.window is not None:
        return serving.prompts.window
    if not isinstance(speech, SpeechTokenizer):
        return WINDOW
    config = speech.config
    return min(config.longest or config.window, config.window) / config.vector_rate


def check_hears(serving: Serving) -> None:
    """Raises `Refused` where the model takes no speech."""
    model = serving.model
    if serving.prompts.transcription is None:
        if not hasattr(model.tokenizer.speech, "recognize"):
            raise Refused(400, "this model's speech tokenizer reads no text, and it is not asked to write down what it hears")
    elif not model.tokenizer.vocabulary.speech_codes and (model.inputs is None or "speech" not in model.inputs.counted):
        raise Refused(400, "this model takes no speech")


async def transcribed(
    serving: Serving,
    stack: AsyncExitStack,
    recording: Recording,
    until: float,
    sampler: Sampler = TopP(),  # noqa: B008 (frozen)
    seed: int = 0,
    live: bool = False,
) -> AsyncIterator[Segment]:
    """The segments of a recording, in order: each once it is read, with `live` each time there is more of it. By the model, as
    `prompts.transcription` asks for it, or without that by the speech tokenizer's own text decoder. What is written runs as long
    as `stack` is not left. Raises `Busy`, and `Refused`
    where the model does not hear."""
    cuts = windows(recording, longest(serving))
    overlap = any(one.end > other.start for one, other in pairwise(cuts))
    found: list[Segment] = []
    step = 1 if live and not overlap else BESIDE
    for start in range(0, len(cuts), step):
        group = cuts[start : start + step]
        async for segment in _read(serving, stack, recording, group, until, sampler, seed, live and not overlap):
            if overlap:
                found.append(segment)
            else:
                yield segment
    if overlap:
        yield await serving.read(_joined, serving, found, cuts)


async def _read(
    serving: Serving,
    whole: AsyncExitStack,
    recording: Recording,
    cuts: Sequence[Piece],
    until: float,
    sampler: Sampler,
    seed: int,
    live: bool,
) -> AsyncIterator[Segment]:
    segments = [Segment(one.start / SAMPLE_RATE, one.end / SAMPLE_RATE) for one in cuts]
    sounds = [recording.samples[one.start : one.end] for one in cuts]
    spoken = [number for number, samples in enumerate(sounds) if heard(samples)]  # of silence models read what nobody says
    if serving.prompts.transcription is None:
        texts = await serving.decoded(lambda: _recognized(serving, [sounds[number] for number in spoken]))
        for number, text in zip(spoken, texts, strict=True):
            segments[number].text = segments[number].new = text
    elif spoken:
        async with AsyncExitStack() as stack:
            whole.push_async_callback(stack.aclose)  # where nobody reads on
            asking = await _prompts(serving, [sounds[number] for number in spoken], sampler, seed)
            answers, events = await asked(serving, stack, asking, until)
            place = dict(zip(answers, spoken, strict=True))
            for answer in answers:
                segments[place[answer]].prompt = answer.prompt
            async for answer, some in events:
                segment = segments[place[answer]]
                segment.ids, segment.likely = answer.ids, answer.likely
                segment.new = "".join(event.text for event in some or () if isinstance(event, TextDelta))
                if live and segment.new:
                    yield segment
            for answer in answers:
                segment = segments[place[answer]]
                segment.text = text_of(answer.events) or _so_far(answer)
                segment.new = "" if live else segment.text
    for segment in segments:
        segment.over = True
        yield segment


async def _prompts(serving: Serving, sounds: Sequence[np.ndarray], sampler: Sampler, seed: int) -> list:
    prompts, words = serving.prompts, serving.prompts.transcription or ""
    parts = [Speech(encode_wav(one, SAMPLE_RATE), "wav", SAMPLE_RATE, len(one) / SAMPLE_RATE) for one in sounds]
    given = await serving.read(serving.model.prompts, [prompts.asked(words, part) for part in parts], media=True)
    most = min(MOST_TOKENS, serving.limits.new_tokens)
    wanted = Settings(outputs=("text",), max_new_tokens=most + 1, text=sampler, seed=seed % (1 << 62), logprobs=0)
    return [(prompt, *fitted(serving, prompt, [wanted])) for prompt in given]


def _so_far(answer: Answer) -> str:
    """The text of an answer that was cut off."""
    return "".join(event.text for event in answer.events if isinstance(event, TextDelta)).strip()


def _recognized(serving: Serving, sounds: Sequence[np.ndarray]) -> list[str]:
    read: Any = serving.model.tokenizer.speech  # see `check_hears`
    return read.recognize(sounds) if sounds else []


def _joined(serving: Serving, found: Sequence[Segment], cuts: Sequence[Piece]) -> Segment:
    """One segment of all that overlap: where in it a word stands is not known."""
    whole = Segment(found[0].start, found[-1].end, over=True, prompt=summed([one.prompt for one in found if one.prompt]))
    if serving.prompts.transcription is None:
        tokenizer = serving.model.tokenizer.text
        tokens = [tokenizer.encode(one.text, add_special_tokens=False) for one in found]
    else:
        tokens = [one.ids for one in found]
    hop = round(_HOP * SAMPLE_RATE)
    ids = merged(tokens, [Piece(one.start // hop, -(-one.end // hop)) for one in cuts])
    whole.text = whole.new = str(serving.model.tokenizer.text.decode(ids)).strip()
    whole.ids = ids
    return whole
