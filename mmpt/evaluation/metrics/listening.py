"""What was said in answers: as the model's own speech tokenizer reads it, or a recogniser whose figures compare with others'."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from mmpt.data.hearing.recogniser import ListenerConfig, recognise
from mmpt.document import Part, Speech
from mmpt.errors import ConfigError
from mmpt.media import decode_speech
from mmpt.modality import SAMPLE_RATE

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel
    from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer


def heard(model: "MultimodalModel", answers: Sequence[Sequence[Part]], listener: ListenerConfig | None = None) -> list[str]:
    """What the speech in each answer says, as the `listener` or the speech tokenizer's own text decoder reads it; "" where there
    is none. Raises `ConfigError` where the listener cannot be loaded, or there is neither."""
    rate = SAMPLE_RATE if listener else speech_tokenizer(model).sample_rate
    sounds = [[decode_speech(part.data, rate) for part in answer if isinstance(part, Speech)] for answer in answers]
    spoken = [np.concatenate(parts) for parts in sounds if parts]
    if not spoken:
        return [""] * len(answers)
    read = iter(recognise(listener, spoken) if listener else _transcribed(speech_tokenizer(model), spoken))
    return [next(read) if parts else "" for parts in sounds]


def speech_tokenizer(model: "MultimodalModel") -> "SpeechTokenizer":
    """That of a model. Raises `ConfigError` where it has none that was trained here, and so reads text."""
    tokenizer = model.tokenizer.speech
    if not hasattr(tokenizer, "transcribe"):
        found = "no" if tokenizer is None else "a published"
        raise ConfigError(f"the model has {found} speech tokenizer, which reads no text: what is spoken needs a listener")
    return cast("SpeechTokenizer", tokenizer)


def _transcribed(tokenizer: "SpeechTokenizer", sounds: Sequence[np.ndarray]) -> list[str]:
    # Encoded again: what counts is the sound that a person hears, not the codes that it was made of.
    return tokenizer.transcribe(tokenizer.encode(sounds))


def reader(listener: ListenerConfig | None) -> str:
    """Who reads, in words."""
    return listener.model if listener else "the speech tokenizer"
