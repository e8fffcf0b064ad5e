"""What is written, as a person gets it: pieces of text, pictures and sound, each as soon as it is known."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from mmpt.document import Part, Text
from mmpt.errors import VocabularyError
from mmpt.inference.decoding import Decode, decode_with, spoken
from mmpt.modality import MEDIA, Medium
from mmpt.tokenizers.in_turn import Alternate, one_sound
from mmpt.tokenizers.interface import AnySpeechTokenizer, SoundStream
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.text import decode_text


@dataclass(frozen=True)
class TextDelta:
    """More `text` of part number `part`; it may be empty, of ids that show nothing yet."""

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


class _Open:
    """A part that is being written: its number, what of a text was shown, what of a sound was spoken."""

    def __init__(self, part: int) -> None:
        self.part, self.shown = part, ""
        self.ids: list[list[int]] = [[]]
        """Those that are to be decoded; of a medium a list for each of its blocks."""
        self.sounds: list[np.ndarray] = []


class Assembler:
    """Takes ids as they come (`push`, at the end `finish`), gives events. Every id is in exactly one event, in their order.

    Sound is decoded block by block where the tokenizer can (a block decoder with a vocoder), else at the end of its part, by
    `decode`, as pictures are. Text and speech in turn (see `mmpt.tokenizers.in_turn`) are one text, and one sound decoded without
    a break; both come to their end with the last block.
    """

    def __init__(
        self,
        tokenizer: MultimodalTokenizer,
        voice: np.ndarray | None = None,
        decode: Decode | None = None,
        alternate: Alternate | None = None,
    ) -> None:
        """`alternate`: as it was asked for, if it was."""
        self._tokenizer, self._alternate = tokenizer, tokenizer.alternate(alternate)
        self._decode = decode or decode_with(tokenizer, voice)
        self._vocabulary = tokenizer.vocabulary
        self._opening: dict[int, Medium] = {self._vocabulary.special(f"<|{kind}|>"): kind for kind in MEDIA}
        self._closing = {self._vocabulary.special(f"<|/{kind}|>") for kind in MEDIA}
        self._inside: Medium | None = None
        self._parts = 0  # those that were opened
        self._count = self._before = 0  # ids since the last mark, and those of text before the open block
        self._new: list[int] = []  # ids that no event has told of yet
        self._text: _Open | None = None
        self._medium: _Open | None = None  # beside a text: the sound that is spoken in turn with it
        self._stack = ExitStack()
        self._stream: SoundStream | None = None

    def push(self, ids: Sequence[int]) -> Iterator[Event]:
        """Events of the next ids, of which none is `<|end|>`."""
        for token in ids:
            if token in self._opening:
                yield from self._opens(self._opening[token])
                self._new.append(token)  # after that: the mark belongs to the part that it opens
                continue
            self._new.append(token)
            if token in self._closing:
                yield from self._closes()
            else:
                self._count += 1
                self._written().ids[-1].append(token)
        if self._inside == "speech":
            yield from self._sound()
        elif self._inside is None:
            yield from self._shown()

    def heavy(self, ids: Sequence[int]) -> bool:
        """Whether `push` of these might decode sound or pictures, or begin to, which takes long."""
        if self._inside is not None and self._stream is not None and self._waiting + len(ids) > self._stream.silent:
            return True
        speech = self._tokenizer.speech
        begins = self._medium is not None or (speech is not None and speech.speaks_in_blocks)
        return any(token in self._closing or (begins and token in self._opening) for token in ids)

    @property
    def ends_heavily(self) -> bool:
        """Whether `finish` would decode."""
        return self._medium is not None

    def finish(self) -> Iterator[Event]:
        """Events of what is still open."""
        yield from self._end()

    def broken_off(self) -> Iterator[PartDone]:
        """In place of `finish`, where an answer ends before its time: of a text and a sound in turn what there was. Nothing is
        decoded any more."""
        text, sound = self._text, self._medium
        if text is not None and sound is not None and sound.sounds:
            yield PartDone(text.part, Text(text.shown), ())
            yield PartDone(sound.part, spoken(np.concatenate(sound.sounds), self._speech.sound_rate), ())
        self._stack.close()

    @property
    def _waiting(self) -> int:
        """Codes of the sound that are not decoded yet."""
        return sum(map(len, self._medium.ids)) if self._medium else 0

    def _opened(self) -> _Open:
        self._parts += 1
        return _Open(self._parts - 1)

    def _written(self) -> _Open:
        """The part that the next id belongs to, where it is no mark."""
        if self._inside is not None and self._medium is not None:
            return self._medium
        self._text = self._text or self._opened()
        return self._text

    def _opens(self, kind: Medium) -> Iterator[Event]:
        """A block begins: of the sound that goes on, or of a new part."""
        alternate = self._alternate if kind == "speech" else None
        if alternate and (self._medium is not None or self._count == alternate[0]):
            yield from self._shown()  # whether this was all of the text is seen where the block ends
            yield from self._untold(self._text)
        else:
            yield from self._end()
        if self._medium is None:
            self._medium = self._opened()
            speech = self._tokenizer.speech
            if kind == "speech" and speech is not None and speech.speaks_in_blocks:
                self._stream = self._stack.enter_context(self._decode.speaking())
        else:
            self._medium.ids.append([])
        self._inside, self._before, self._count = kind, self._count, 0

    def _closes(self) -> Iterator[Event]:
        """The block ends, and with it what is open where that does not go on."""
        if self._inside == "speech" and (self._before, self._count) == self._alternate:
            yield from self._sound()
            yield from self._untold(self._medium)
        else:
            yield from self._end()
        self._inside, self._count = None, 0

    def _end(self) -> Iterator[Event]:
        """All that is open ends."""
        if (text := self._text) is not None:
            yield from self._shown(whole=True)
            if self._inside is None and self._medium is not None:
                yield from self._untold(text)
            content: Part = Text(decode_text(self._tokenizer.text, text.ids[0]))
            yield PartDone(text.part, content, () if self._medium else self._taken())
        if (medium := self._medium) is not None:
            if self._inside == "image":
                content = self._decode("image", np.array(medium.ids[0]) - self._vocabulary.image_offset).part
            else:
                yield from self._sound(whole=True)
                content = spoken(np.concatenate(medium.sounds), self._speech.sound_rate)
            yield PartDone(medium.part, content, self._taken())
        self._stack.close()
        self._text = self._medium = self._stream = None

    def _shown(self, whole: bool = False) -> Iterator[TextDelta]:
        """What is new of the text. What may still change is held back: a character of which only some bytes are there."""
        if self._text is None:
            return
        text = decode_text(self._tokenizer.text, self._text.ids[0])
        if text.startswith(self._text.shown) and text != self._text.shown and (whole or not text.endswith("\ufffd")):
            new, self._text.shown = text[len(self._text.shown) :], text
            yield TextDelta(self._text.part, new, () if self._inside else self._taken())

    def _sound(self, whole: bool = False) -> Iterator[AudioDelta]:
        """What is new of the sound."""
        sound, speech = self._medium, self._speech
        assert sound is not None
        found: list[np.ndarray] = []
        if self._stream is not None and not whole and self._waiting <= self._stream.silent:
            return  # each turn of what decodes costs as much as a code
        if self._stream is not None:
            codes = np.array(sum(sound.ids, []), dtype=np.int64) - self._vocabulary.speech_offset
            sound.ids = [[]]
            found = [self._stream.push(codes), *([self._stream.finish()] if whole else [])]
        elif whole:
            blocks = [np.array(block, dtype=np.int64) - self._vocabulary.speech_offset for block in sound.ids]
            samples = self._decode("speech", one_sound(blocks, self._vocabulary)).samples
            found = [] if samples is None else [samples]
        sound.sounds += found
        samples = np.concatenate([np.zeros(0, dtype=np.float32), *found])
        if len(samples):
            yield AudioDelta(sound.part, samples, speech.sound_rate, self._taken())

    def _untold(self, part: _Open | None) -> Iterator[Event]:
        """Ids of `part` that no event has told of, and that show nothing."""
        if part is None or not self._new:
            return
        if part is self._text:
            yield TextDelta(part.part, "", self._taken())
        else:
            yield AudioDelta(part.part, np.zeros(0, dtype=np.float32), self._speech.sound_rate, self._taken())

    @property
    def _speech(self) -> AnySpeechTokenizer:
        if self._tokenizer.speech is None:  # the grammar opens no block without codes
            raise VocabularyError("codes of speech, but no speech tokenizer")
        return self._tokenizer.speech

    def _taken(self) -> tuple[int, ...]:
        taken, self._new = tuple(self._new), []
        return taken
