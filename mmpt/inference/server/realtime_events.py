"""What a client of `/v1/realtime` may say: OpenAI's client events. Every field is obeyed, or refused with a reason.

In a session and a response the samplers of chat completions go too: `temperature`, `top_p`, `top_k`, `seed`, `alternate`.
"""

from typing import Annotated, Any, Literal

import pydantic

from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.limits import Limits
from mmpt.inference.settings import Settings

OPTIONAL = {"turn_detection", "transcription", "noise_reduction"}
"""Settings that `null` turns off; any other that is null is absent."""
_MERGED = {"audio", "input", "output", "turn_detection"}
"""Settings of which an update names only what it changes."""
Name = Annotated[str, pydantic.Field(min_length=1, max_length=64)]
Nothing = Annotated[list, pydantic.Field(max_length=0)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class Pcm(_Strict):
    """16 bits, one channel, 24 kHz."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class Telephone(_Strict):
    """G.711, 8 kHz: μ-law or A-law."""

    type: Literal["audio/pcmu", "audio/pcma"]

    @property
    def rate(self) -> int:
        return 8000


Format = Annotated[Pcm | Telephone, pydantic.Field(discriminator="type")]


class ServerVad(_Strict):
    """The server tells by the sound when somebody speaks. `threshold`: the probability from which on it is speech."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = pydantic.Field(default=0.5, gt=0, lt=1)
    prefix_padding_ms: int = pydantic.Field(default=300, ge=0, le=5000)
    silence_duration_ms: int = pydantic.Field(default=500, ge=32, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: None = None


class Transcription(_Strict):
    """What was heard, as the model's speech tokenizer reads it from its own codes."""

    model: str | None = None
    language: None = None
    prompt: Literal[""] = ""


class AudioInput(_Strict):
    format: Format = Pcm()
    noise_reduction: None = None
    transcription: Transcription | None = None
    turn_detection: ServerVad | None = ServerVad()


class AudioOutput(_Strict):
    format: Format = Pcm()
    voice: Literal["default"] = "default"
    speed: Annotated[float, pydantic.Field(ge=1, le=1)] = 1.0


class Audio(_Strict):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class _Asked(_Strict):
    """What a session says of all its responses, and a response of itself."""

    instructions: str = ""
    output_modalities: Annotated[list[Literal["text", "audio"]], pydantic.Field(min_length=1, max_length=1)] = ["audio"]
    max_output_tokens: Annotated[int, pydantic.Field(ge=1)] | Literal["inf"] = "inf"
    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 62)
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None

    tools: Nothing = []
    tool_choice: Literal["none", "auto"] = "auto"
    parallel_tool_calls: Any = None
    prompt: None = None
    reasoning: None = None

    @property
    def spoken(self) -> bool:
        """Whether sound is asked for."""
        return self.output_modalities == ["audio"]

    def settings(self, limits: Limits, alternate: tuple[int, int] | None) -> Settings:
        """As the engine takes them. `alternate`: how the model has learned to speak while it writes."""
        most = limits.new_tokens if self.max_output_tokens == "inf" else min(self.max_output_tokens, limits.new_tokens)
        sampler = TopP(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)
        return Settings(
            outputs=("text", "speech") if self.spoken else ("text",),
            text=sampler,
            speech=sampler,
            max_new_tokens=most + 1,  # and the end
            alternate=(self.alternate or alternate) if self.spoken else None,
            seed=self.seed,
        )


class Session(_Asked):
    """The settings of a session."""

    type: Literal["realtime"] = "realtime"
    model: str | None = None
    audio: Audio = Audio()
    truncation: Literal["auto", "disabled"] = "auto"
    include: Nothing = []
    tracing: None = None

    def updated(self, changes: dict[str, Any]) -> "Session":
        """With `changes`, in which what is absent stays. Raises `ValidationError`."""
        return Session.model_validate(_merged(self.model_dump(mode="json"), changes))


class InputText(_Strict):
    type: Literal["input_text"]
    text: str


class InputAudio(_Strict):
    """`audio`: base64 in the session's format of input."""

    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


class InputImage(_Strict):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto"] = "auto"


class OutputText(_Strict):
    type: Literal["output_text"]
    text: str


class _Message(_Strict):
    id: Name | None = None
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"]
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class UserMessage(_Message):
    role: Literal["user"]
    content: list[Annotated[InputText | InputAudio | InputImage, pydantic.Field(discriminator="type")]] = pydantic.Field(
        min_length=1
    )


class SystemMessage(_Message):
    role: Literal["system"]
    content: list[InputText] = pydantic.Field(min_length=1)


class AssistantMessage(_Message):
    """What an assistant has said in text; what it spoke here is in the conversation already."""

    role: Literal["assistant"]
    content: list[OutputText] = pydantic.Field(min_length=1)


Message = Annotated[UserMessage | SystemMessage | AssistantMessage, pydantic.Field(discriminator="role")]


class Reference(_Strict):
    """An item of the conversation."""

    type: Literal["item_reference"]
    id: Name


class ResponseAudio(_Strict):
    output: AudioOutput = AudioOutput()


class Asked(_Asked):
    """What is asked of one response. `conversation` none: it does not go into the conversation; `input`: what it answers, in
    place of the conversation."""

    conversation: Literal["auto", "none"] = "auto"
    input: list[Annotated[Reference | Message, pydantic.Field(union_mode="left_to_right")]] | None = None
    metadata: dict[str, str] = {}
    audio: ResponseAudio = ResponseAudio()


class _Event(_Strict):
    event_id: str | None = None


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: dict[str, Any]


class Append(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(_Event):
    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    item: Message
    previous_item_id: Name | None = None


class ItemRetrieve(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: Name


class ItemDelete(_Event):
    type: Literal["conversation.item.delete"]
    item_id: Name


class ItemTruncate(_Event):
    type: Literal["conversation.item.truncate"]
    item_id: Name
    content_index: Literal[0] = 0
    audio_end_ms: int = pydantic.Field(ge=0)


class ResponseCreate(_Event):
    type: Literal["response.create"]
    response: dict[str, Any] | None = None


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: Name | None = None


ClientEvent = Annotated[
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel,
    pydantic.Field(discriminator="type"),
]


def media(event: Any) -> int:
    """Characters of the sounds and pictures in an event."""
    if isinstance(event, Append):
        return len(event.audio)
    if isinstance(event, ItemCreate):
        return _media(event.item.model_dump())
    return _media((event.response or {}).get("input")) if isinstance(event, ResponseCreate) else 0


def _media(given: Any) -> int:
    if isinstance(given, dict):
        return sum(
            len(one) if key in ("audio", "image_url") and isinstance(one, str) else _media(one) for key, one in given.items()
        )
    return sum(map(_media, given)) if isinstance(given, list) else 0


EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ClientEvent)


def asked_by(session: Session, changes: dict[str, Any] | None) -> Asked:
    """A response by what its session says, and by `changes`. Raises `ValidationError`."""
    common = session.model_dump(mode="json", include=set(_Asked.model_fields))
    return Asked.model_validate(_merged({**common, "audio": {"output": session.audio.output.model_dump()}}, changes or {}))


def _merged(known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    found = dict(known)
    for key, value in changes.items():
        if value is None and key not in OPTIONAL:
            continue
        if key in _MERGED and isinstance(value, dict) and isinstance(found.get(key), dict):
            value = _merged(found[key], value)
        found[key] = value
    return found
