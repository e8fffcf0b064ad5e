"""What is written, as a person gets it: pieces of text, pictures and sound, each as soon as it is known."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from mmpt.document import Part, Text
from mmpt.errors import VocabularyError
from mmpt.inference.decoding import Decode, decode_with, spoken
from mmpt.modality import MEDIA, Medium
from mmpt.tokenizers.interface import AnySpeechTokenizer, SoundStream
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.text import decode_text


@dataclass(frozen=True)
class TextDelta:
    """More `text` of part number `part`."""

    part: int
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class AudioDelta:
    """More sound of part number `part`: `samples` float32 [n] at `sample_rate` Hz, n may be 0."""

    part: int
    samples: np.ndarray = field(repr=False)
    sample_rate: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PartDone:
    """Part number `part` is whole."""

    part: int
    content: Part
    ids: tuple[int, ...]


Event = TextDelta | AudioDelta | PartDone


class Assembler:
    """Takes ids as they come (`push`, at the end `finish`), gives events. Every id is in exactly one event.

    Sound is decoded block by block where the tokenizer can (a block decoder with a vocoder), else at the end of its part, by
    `decode`, as pictures are.
    """

    def __init__(self, tokenizer: MultimodalTokenizer, voice: np.ndarray | None = None, decode: Decode | None = None) -> None:
        self._tokenizer = tokenizer
        self._decode = decode or decode_with(tokenizer, voice)
        self._vocabulary = tokenizer.vocabulary
        self._opening: dict[int, Medium] = {self._vocabulary.special(f"<|{kind}|>"): kind for kind in MEDIA}
        self._closing = {self._vocabulary.special(f"<|/{kind}|>") for kind in MEDIA}
        self._inside: Medium | None = None
        self._part, self._shown = 0, ""
        self._new: list[int] = []  # ids that no event has told of yet
        self._run: list[int] = []  # ids of the open part that are not decoded yet
        self._sounds: list[np.ndarray] = []
        self._stack = ExitStack()
        self._stream: SoundStream | None = None
        self._spoken: Part | None = None

    def push(self, ids: Sequence[int]) -> Iterator[Event]:
        """Events of the next ids, of which none is `<|end|>`."""
        for token in ids:
            if token in self._opening:
                yield from self._close()  # text that stood before
                self._open(self._opening[token])
            self._new.append(token)  # after that: the mark belongs to the part that it opens
            if token in self._closing:
                yield from self._close()
            elif token not in self._opening:
                self._run.append(token)
        if self._inside == "speech":
            yield from self._sound()
        elif self._inside is None:
            yield from self._text(decode_text(self._tokenizer.text, self._run), whole=False)

    def heavy(self, ids: Sequence[int]) -> bool:
        """Whether `push` of these would decode sound or pictures, which takes long."""
        return self._stream is not None or any(token in self._opening or token in self._closing for token in ids)

    def finish(self) -> Iterator[Event]:
        """Events of what is still open."""
        yield from self._close()
        self._stack.close()

    def _open(self, kind: Medium) -> None:
        self._inside = kind
        speech = self._tokenizer.speech
        if kind == "speech" and speech is not None and speech.speaks_in_blocks:
            self._stream = self._stack.enter_context(self._decode.speaking())

    def _close(self) -> Iterator[Event]:
        """The open part ends, if there is one."""
        if self._inside is None and not self._run:
            return
        if self._inside is None:
            content: Part = Text(decode_text(self._tokenizer.text, self._run))
            yield from self._text(content.text, whole=True)
        elif self._inside == "image":
            content = self._decode("image", np.array(self._run) - self._vocabulary.image_offset).part
        else:
            yield from self._sound(whole=True)
            content = self._spoken or spoken(np.concatenate(self._sounds), self._speech.sound_rate)
        yield PartDone(self._part, content, self._taken())
        self._run, self._shown, self._sounds, self._inside, self._stream, self._spoken = [], "", [], None, None, None
        self._part += 1

    def _text(self, text: str, whole: bool) -> Iterator[TextDelta]:
        # What may still change is held back: a character of which only some bytes are there.
        if text.startswith(self._shown) and text != self._shown and (whole or not text.endswith("\ufffd")):
            new, self._shown = text[len(self._shown) :], text
            yield TextDelta(self._part, new, self._taken())

    @property
    def _speech(self) -> AnySpeechTokenizer:
        if self._tokenizer.speech is None:  # the grammar opens no block without codes
            raise VocabularyError("codes of speech, but no speech tokenizer")
        return self._tokenizer.speech

    def _sound(self, whole: bool = False) -> Iterator[AudioDelta]:
        speech = self._speech
        codes = np.array(self._run, dtype=np.int64) - self._vocabulary.speech_offset
        if self._stream is None:
            found: list[np.ndarray] = []
            if whole:
                self._spoken, samples = self._decode("speech", codes)
                found = [] if samples is None else [samples]
        else:
            self._run.clear()
            found = [self._stream.push(codes), *([self._stream.finish()] if whole else [])]
        self._sounds += found
        samples = np.concatenate([np.zeros(0, dtype=np.float32), *found])
        if len(samples):
            yield AudioDelta(self._part, samples, speech.sound_rate, self._taken())

    def _taken(self) -> tuple[int, ...]:
        taken, self._new = tuple(self._new), []
        return taken
