"""Requests in the form of OpenAI's chat completions: every field is obeyed, or refused with a reason.

messages[].content: text, or parts {type: text | image_url (data URL) | input_audio}; an earlier answer may be named by `id`, or
by that of its sound (`audio: {id}`). A field that is null is absent.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from mmpt.chat import ChatMarker, Coded, Said
from mmpt.document import Image, Role, Speech, Text
from mmpt.errors import DataError
from mmpt.inference.load import MultimodalModel
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.fields import Asked, Body
from mmpt.inference.server.kept import KeptAnswers
from mmpt.inference.server.limits import Budget, Limits
from mmpt.inference.server.sounds import SoundFormat, check_format
from mmpt.inference.settings import Settings
from mmpt.media import decode_image, decode_speech, picture_size, sized_sound
from mmpt.modality import MODALITIES, Modality
from mmpt.tokenizers.in_turn import written_in_turn

_DATA_URL = re.compile(r"data:image/(png|jpeg|jpg|webp|gif);base64,", re.ASCII)
OpenAIModality = Literal["text", "image", "audio"]
_NAMES: dict[Modality, OpenAIModality] = {"text": "text", "image": "image", "speech": "audio"}
"""Each modality, and what OpenAI calls it."""
RATE = 96_000
"""Samples of all channels that a second of the budget may hold: 48 kHz, two channels."""


class TextPart(Asked):
    type: Literal["text"]
    text: str


class ImageUrl(Asked):
    url: str
    detail: Literal["auto"] = "auto"


class InputAudio(Asked):
    data: str
    format: Literal["wav", "mp3", "flac", "ogg"] = "wav"


class _OfAnswer(Asked):
    """A part of an answer may be sent back as it came."""

    index: int = 0
    ids: list[int] = []


class ImagePart(_OfAnswer):
    type: Literal["image_url"]
    image_url: ImageUrl


class AudioPart(_OfAnswer):
    type: Literal["input_audio"]
    input_audio: InputAudio
    duration: float = 0.0
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """How the text before it and it came in turn; where that is not told, as the model has learned it."""


class AnsweredText(_OfAnswer, TextPart):
    pass


AnyPart = Annotated[AnsweredText | ImagePart | AudioPart, pydantic.Field(discriminator="type")]


class EarlierAnswer(NamedTuple):
    """A whole answer, by the id of its message or of its sound."""

    id: str


class Message(Asked):
    """An answer's message may be sent back whole. Where the answer of its `id` is still kept, that is what was said, in the ids
    that it was written in; else its `parts`, not `content` and `audio`. Without them `audio`, by its id, is the whole answer."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[AnyPart] = ""
    parts: list[AnyPart] = []
    audio: dict = {}
    ids: list[int] = []
    id: str = ""
    annotations: Annotated[list, pydantic.Field(max_length=0)] = []

    @pydantic.model_validator(mode="after")
    def _said(self) -> "Message":
        if self.audio and not self.parts and not (self.role == "assistant" and isinstance(self.audio.get("id"), str)):
            raise ValueError("audio: expected the id of an earlier answer of the assistant's")
        if not (self.parts or self.audio or self.id) and "content" not in self.model_fields_set:
            raise ValueError("content: Field required")
        return self

    def said(self, kept: KeptAnswers | None) -> "Sequence[TextPart | ImagePart | AudioPart | EarlierAnswer]":
        """Its parts, a plain text as one."""
        if self.role == "assistant" and self.id and kept and kept.ids(self.id) is not None:
            return [EarlierAnswer(self.id)]
        if self.parts:
            return self.parts
        if self.audio or (self.id and not self.content):
            return [EarlierAnswer(self.audio["id"] if self.audio else self.id)]
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class StreamOptions(Asked):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class AudioOptions(Asked):
    """One voice. A stream is `pcm16`, as OpenAI has it."""

    voice: Literal["default"] = "default"
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"] = "wav"

    @property
    def file(self) -> SoundFormat:
        """The format by its other name."""
        return "pcm" if self.format == "pcm16" else self.format


class JsonSchema(Asked):
    """`strict` or not, the schema is enforced."""

    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=True)

    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    content: dict[str, Any] = pydantic.Field(default={"type": "object"}, alias="schema")
    strict: bool = False


class PlainFormat(Asked):
    type: Literal["text"]


class ObjectFormat(Asked):
    type: Literal["json_object"]


class SchemaFormat(Asked):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[PlainFormat | ObjectFormat | SchemaFormat, pydantic.Field(discriminator="type")]


class ChatRequest(Body):
    """Roles are marked by the model's chat template; where it has none, the parts of all messages follow each other. `sampler`
    stands for `temperature`, `top_p` and `top_k`, and `sampling` for all of them for a modality of the answer. The fields of the
    last group change nothing in an answer; of those before them only the values that ask for nothing are taken."""

    messages: list[Message] = pydantic.Field(min_length=1)
    modalities: list[OpenAIModality] = pydantic.Field(default=["text", "image", "audio"], min_length=1)
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    max_completion_tokens: int | None = pydantic.Field(default=None, ge=1)
    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    sampler: Sampler | None = None
    sampling: dict[OpenAIModality, Sampler] = {}
    guidance: float = pydantic.Field(default=1.0, ge=0, le=100)
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    seed: int = pydantic.Field(default=0, gt=-(1 << 63), lt=1 << 63)
    stop: Annotated[list[Annotated[str, pydantic.Field(min_length=1, max_length=256)]], pydantic.Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    audio: AudioOptions = AudioOptions()

    n: int = pydantic.Field(default=1, ge=1, le=128)
    logprobs: bool = False
    top_logprobs: int = pydantic.Field(default=0, ge=0, le=20)
    response_format: ResponseFormat = PlainFormat(type="text")
    logit_bias: dict[pydantic.NonNegativeInt, Annotated[float, pydantic.Field(ge=-100, le=100)]] = {}
    frequency_penalty: float = pydantic.Field(default=0.0, ge=-2, le=2)
    presence_penalty: float = pydantic.Field(default=0.0, ge=-2, le=2)
    return_token_ids: bool = False

    tools: Annotated[list, pydantic.Field(max_length=0)] = []
    tool_choice: Literal["none", "auto"] = "none"
    functions: Annotated[list, pydantic.Field(max_length=0)] = []
    function_call: Literal["none", "auto"] = "none"

    metadata: Any = None
    store: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"
    parallel_tool_calls: Any = None
    prompt_cache_key: Any = None

    _used: list[Any] = pydantic.PrivateAttr(default_factory=list)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _one_stop_word(cls, content: object) -> object:
        if isinstance(content, dict) and isinstance(content.get("stop"), str):
            content = {**content, "stop": [content["stop"]]}
        return content

    @pydantic.model_validator(mode="after")
    def _of_streams(self) -> "ChatRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream: true")
        if self.sampler is not None and {"temperature", "top_p", "top_k"} & self.model_fields_set:
            raise ValueError("sampler: it goes without temperature, top_p and top_k, which are settings of its own")
        if "format" in self.audio.model_fields_set and self.stream and self.audio.format != "pcm16":
            raise ValueError("audio.format: expected pcm16 in a stream")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs: true")
        if not isinstance(self.response_format, PlainFormat):
            if "modalities" in self.model_fields_set and self.modalities != ["text"]:
                raise ValueError("response_format: JSON is text, expected modalities: [text]")
            if self.alternate is not None:
                raise ValueError("response_format: JSON is text, and goes without alternate")
        return self

    def settings(self, limits: Limits, model: MultimodalModel) -> list[Settings]:
        """As the engine takes them, for each of the `n` answers. Raises `DataError` on what goes beyond `limits`, `ValueError` on
        what does not go together."""
        asked = self.max_completion_tokens or self.max_tokens or min(512, limits.new_tokens)
        if asked > limits.new_tokens:
            raise DataError(f"max_tokens: {asked}, at most {limits.new_tokens} are written")
        if self.n > limits.running:
            raise DataError(f"n: {self.n}, at most {limits.running} answers are written at once")
        size = model.tokenizer.vocabulary.size
        if unknown := next((token for token in self.logit_bias if token >= size), None):
            raise DataError(f"logit_bias: {unknown} is no token, expected 0 … {size - 1}")
        check_format(self.audio.file)
        grammar = self._grammar(model)
        common = self.sampler or TopP(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)
        text, image, speech = (self.sampling.get(_NAMES[name], common) for name in ("text", "image", "speech"))
        base = Settings(
            outputs=("text",) if grammar else tuple(name for name in MODALITIES if _NAMES[name] in self.modalities),
            text=text,
            image=image,
            speech=speech,
            max_new_tokens=asked + 1,  # the end of the answer, which OpenAI does not count
            guidance=self.guidance,
            alternate=self.alternate,
            seed=self.seed % (1 << 61),
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=tuple(self.logit_bias.items()),
            logprobs=self.top_logprobs if self.logprobs else None,
            text_grammar=grammar,
        )
        return [base.model_copy(update={"seed": base.seed + number}) for number in range(self.n)]

    def _grammar(self, model: MultimodalModel) -> str | None:
        if isinstance(self.response_format, PlainFormat):
            return None
        schema = (
            self.response_format.json_schema.content if isinstance(self.response_format, SchemaFormat) else {"type": "object"}
        )
        return model.text_grammars.json(schema)

    def parts(self, limits: Limits, chat: ChatMarker | None = None, kept: KeptAnswers | None = None) -> list[Said]:
        """The prompt, each message a turn. With `chat`, what the assistant said in more than text stands there by the ids that it
        was written in, where the message has them. `kept`: earlier answers.

        Raises `DataError`, naming the place, where a medium is none or too large, or all are together (only their headers are
        read), where ids are none of an answer, or an earlier answer is not known.
        """
        found: list[Said] = []
        self._used = []
        budget = Budget(limits)
        in_more_than_text = [any(not isinstance(one, TextPart) for one in message.said(kept)) for message in self.messages]
        for place in self._places(kept):
            self._used.append(place)
            name, turn, part = place
            if len(found) == limits.prompt_tokens:  # each has a token at least
                raise DataError(f"{name}: more than {limits.prompt_tokens} parts in one request")
            message = self.messages[turn]
            role: Role = "system" if message.role == "developer" else message.role
            if isinstance(part, EarlierAnswer):
                ids = kept.ids(part.id) if kept else None
                if ids is None:
                    raise DataError(f"{name}: no such answer is kept; send the message's parts")
                found.append(Coded(tuple(ids), role, turn))
                continue
            if chat and role == "assistant" and in_more_than_text[turn] and isinstance(part, _OfAnswer) and part.ids:
                try:
                    coded = chat.coded(part.ids, turn)
                except DataError as problem:
                    raise DataError(f"{name}: {problem}") from None
                before = found[-1] if found else None
                alternate = (part.alternate or chat.format.alternate) if isinstance(part, AudioPart) else None
                if alternate and isinstance(before, Coded) and before.turn == turn:
                    self._used.pop()
                    found[-1] = before._replace(ids=tuple(written_in_turn(before.ids, coded.ids, chat.vocabulary, alternate)))
                else:
                    found.append(coded)
                continue
            try:
                if isinstance(part, TextPart):
                    budget.text(len(part.text))
                    found.append(Text(part.text, 1.0, role, turn))
                    continue
                budget.medium()
                medium = picture(part, limits) if isinstance(part, ImagePart) else _sound(part, limits)
                if isinstance(medium, Image):
                    budget.pixels(medium.width * medium.height)
                else:
                    budget.seconds(medium.duration)
            except DataError as problem:
                raise DataError(f"{name}: {problem}") from None
            found.append(replace(medium, role=role, turn=turn))
        return found

    def damaged(self, parts: Sequence[Said]) -> str:
        """The place and the reason of the first of the prompt's `parts` that cannot be decoded; "" where all can."""
        for (name, *_), part in zip(self._used, parts, strict=True):
            try:
                if isinstance(part, Image):
                    decode_image(part.data)
                elif isinstance(part, Speech):
                    decode_speech(part.data)
            except DataError as problem:
                return f"{name}: {problem}"
        return ""

    def _places(self, kept: KeptAnswers | None) -> Iterator[tuple[str, int, TextPart | ImagePart | AudioPart | EarlierAnswer]]:
        for number, message in enumerate(self.messages):
            for place, part in enumerate(message.said(kept)):
                yield f"messages.{number}.content.{place}", number, part


def picture(part: ImagePart, limits: Limits) -> Image:
    """Raises `DataError` where it is none, or too large; only its header is read."""
    opening = _DATA_URL.match(part.image_url.url[:40])
    if not opening:
        raise DataError("image_url.url: expected a data URL (data:image/png;base64,…); nothing is fetched from elsewhere")
    data = _bytes(part.image_url.url[opening.end() :])
    width, height = picture_size(data)
    if width * height > limits.pixels:
        raise DataError(f"picture of {width} x {height} pixels, at most {limits.pixels} are decoded")
    return Image(data, opening[1].replace("jpeg", "jpg"), width, height)


def _sound(part: AudioPart, limits: Limits) -> Speech:
    data = _bytes(part.input_audio.data)
    data, frames, channels, rate = sized_sound(data, limits.sound, int(limits.sound * RATE))
    seconds = max(frames / rate, frames * channels / RATE)
    if seconds > limits.sound:
        raise DataError(f"audio of {seconds:.0f} s, at most {limits.sound:.0f} s are decoded")
    return Speech(data, part.input_audio.format, rate, seconds)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise DataError(f"no base64 ({problem})") from None
