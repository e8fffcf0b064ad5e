"""Codes of a block to the picture or the sound they stand for: here, or in a process beside this one."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from mmpt.document import Image, Speech
from mmpt.errors import DataError, MmptError, VocabularyError
from mmpt.inference.beside import Beside, Loop, received
from mmpt.media import encode_png, encode_wav
from mmpt.modality import Medium
from mmpt.tokenizers.image.renderers import Renderer, chosen_renderer
from mmpt.tokenizers.interface import AnySpeechTokenizer, SoundStream
from mmpt.tokenizers.multimodal import MultimodalTokenizer

LOG = logging.getLogger("mmpt.serve")
TOGETHER = 16
"""Sounds that are decoded in one batch at most: whoever comes first does not wait for more."""
FEW = 4
"""Parts that are decoded at once on a CPU: a larger batch gains nothing there, and who comes next would wait for all of it."""
SHORT = 2.0
"""Seconds of sound, at most, that waits for no longer one."""


class Decoded(NamedTuple):
    """The part, and of speech its samples float32 [n]."""

    part: Image | Speech
    samples: np.ndarray | None


class Decode(Protocol):
    """Codes to what they stand for. `at_once`: of how many parts, where that is no slower than one after the other."""

    at_once: int

    def __call__(self, kind: Medium, codes: np.ndarray) -> Decoded:
        """What the codes int64 [n] of one part stand for."""
        ...

    def speaking(self) -> AbstractContextManager[SoundStream]:
        """A stream of codes to sound, of a tokenizer that speaks in blocks."""
        ...


class decode_with:  # noqa: N801 (used as a function)
    """By the decoders of `tokenizer`, in this process."""

    at_once = 2

    def __init__(self, tokenizer: MultimodalTokenizer, voice: np.ndarray | None = None) -> None:
        self._tokenizer, self._voice = tokenizer, voice

    def __call__(self, kind: Medium, codes: np.ndarray) -> Decoded:
        """See `Decode`."""
        if kind == "speech":
            (found,) = self.sounds([codes])
            return found
        if self._tokenizer.image is None:  # the grammar opens no block without codes
            raise VocabularyError(f"codes of {kind}, but no {kind} tokenizer")
        (picture,) = self._tokenizer.image.render(codes[None])
        return Decoded(Image(encode_png(picture), "png", picture.width, picture.height), None)

    def sounds(self, codes: Sequence[np.ndarray]) -> list[Decoded]:
        """What each of several code sequences says, decoded in one batch."""
        speech = self._speech
        return [Decoded(spoken(one, speech.sound_rate), one) for one in speech.decode(codes, self._voice)]

    def speaking(self) -> AbstractContextManager[SoundStream]:
        """See `Decode`."""
        return self._speech.speaking(self._voice)

    @property
    def _speech(self) -> AnySpeechTokenizer:
        if self._tokenizer.speech is None:
            raise VocabularyError("codes of speech, but no speech tokenizer")
        return self._tokenizer.speech


def spoken(samples: np.ndarray, sample_rate: int) -> Speech:
    """A WAV of `samples` float32 [n]."""
    return Speech(encode_wav(samples, sample_rate), "wav", sample_rate, len(samples) / sample_rate)


NOTHING = np.zeros(0, dtype=np.int64)
"""No codes."""


class _Ask(NamedTuple):
    """What a decoding process is asked: a part of codes, or what a stream does (`speaking` opens it, `leave` forgets it)."""

    number: int
    what: Medium | Literal["speaking", "push", "finish", "leave"]
    stream: int = -1
    codes: np.ndarray = NOTHING


class DecodingProcess:
    """Decodes in a process of its own, with the tokenizers of `checkpoint`: on a CPU, sound takes as long as the decoder LLM
    itself. Streams and short sounds, long sounds, and pictures wait for their own kind alone; sounds that wait are decoded in one
    batch. A process that is killed is replaced: parts are asked of its successor, streams end in a `DataError`. Use it in a
    `with`, from any threads."""

    def __init__(self, checkpoint: Path, renderer: Renderer | None = None, device: str = "cpu") -> None:
        """`renderer`: what draws images instead of the image tokenizer's own choice."""
        arguments = str(checkpoint), renderer and renderer.model_dump_json(), device
        self._beside = Beside(_begin, arguments, self._heard, self._lost, self._lost)
        self._numbers = count()
        self._asked: dict[int, Future] = {}
        self._closed = False
        self.at_once = FEW if torch.device(device).type == "cpu" else TOGETHER

    def __enter__(self) -> "DecodingProcess":
        self._beside.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()
        self._closed = True
        self._lost()

    @property
    def pid(self) -> int:
        """Of the process as it is now."""
        return self._beside.pid

    def __call__(self, kind: Medium, codes: np.ndarray) -> Decoded:
        """See `Decode`. A process that dies over it twice is not asked again."""
        try:
            return self._ask(kind, codes=codes)
        except _Lost:
            return self._ask(kind, codes=codes)  # of its successor; after the end there is none

    @contextmanager
    def speaking(self) -> Iterator[SoundStream]:
        """See `Decode`."""
        stream = next(self._numbers)
        silent = self._ask("speaking", stream)
        try:
            yield _Stream(self, stream, silent)
        finally:
            self._beside.send(_Ask(-1, "leave", stream))

    def _ask(self, what: Any, stream: int = -1, codes: np.ndarray = NOTHING) -> Any:
        ask, answer = _Ask(next(self._numbers), what, stream, codes), Future[Any]()
        self._asked[ask.number] = answer
        self._beside.send(ask)
        if self._beside.gone or self._closed:
            self._lost()
        return answer.result()

    def _heard(self, said: tuple[int, Any, Exception | None]) -> None:
        number, found, problem = said
        answer = self._asked.pop(number)
        if problem is not None:
            answer.set_exception(problem)
        else:
            answer.set_result(found)

    def _lost(self) -> None:
        reason = "the server stops" if self._closed else "the process that decodes has died"
        for number in list(self._asked):
            if (found := self._asked.pop(number, None)) is not None:
                found.set_exception(_Lost(reason))


class _Lost(DataError):
    """What was asked went with its process."""


class _Stream:
    """A stream of codes to sound in a decoding process."""

    def __init__(self, process: DecodingProcess, number: int, silent: int) -> None:
        self._process, self._number, self.silent = process, number, silent

    def push(self, codes: np.ndarray) -> np.ndarray:
        samples, self.silent = self._process._ask("push", self._number, codes)
        return samples

    def finish(self) -> np.ndarray:
        return self._process._ask("finish", self._number)


def _begin(checkpoint: str, renderer: str | None, device: str) -> Loop:
    """`renderer` as JSON."""
    torch.set_num_threads(1)
    tokenizer = MultimodalTokenizer.of_checkpoint(Path(checkpoint))
    tokenizer.render_by(chosen_renderer(renderer))
    for module in (tokenizer.speech, tokenizer.image):
        if module is not None:
            module.to(device)
    decode, streams = decode_with(tokenizer), _Streams(tokenizer)
    short = SHORT * tokenizer.vocabulary.speech_rate if tokenizer.vocabulary.speech_codes else 0

    def loop(connection: Connection) -> None:
        tell = _Telling(connection)

        def sounds(asks: list[_Ask]) -> None:
            # What others wait for in the middle of their sound goes first.
            for ask in asks:
                if ask.what != "speech":
                    streams.obey(ask, tell)
            _answer_sounds(decode, [ask for ask in asks if ask.what == "speech"], tell)

        def pictures(asks: list[_Ask]) -> None:
            for ask in asks:
                tell.of(ask, lambda ask=ask: decode("image", ask.codes))

        with _Lane(sounds) as soon, _Lane(sounds, behind=True) as later, _Lane(pictures) as drawn:
            while True:
                ask = received(connection)
                long = ask.what == "speech" and len(ask.codes) > short
                (drawn if ask.what == "image" else later if long else soon).asked.put(ask)

    return loop


class _Lane:
    """A thread that answers what is `asked`, all that waits at once, as long as the `with` lasts. `behind`: it gets a third of a
    core that another thread wants too."""

    def __init__(self, answer: Callable[[list[_Ask]], None], behind: bool = False) -> None:
        self._answer, self._behind, self._over = answer, behind, False
        self.asked: SimpleQueue[_Ask | None] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Lane":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What still waits is not answered any more."""
        self._over = True
        self.asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        if self._behind and sys.platform == "linux":  # where it holds for the thread alone
            os.nice(5)
        while True:
            waiting = [self.asked.get()]
            while len(waiting) < TOGETHER and not self.asked.empty():
                waiting.append(self.asked.get())
            if self._over:
                return
            try:
                self._answer([ask for ask in waiting if ask is not None])
            except BaseException:  # nobody may wait for ever: the process is replaced
                LOG.exception("what decodes has failed")
                os._exit(1)


class _Telling:
    """Answers to whoever asks, from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, Lock()

    def of(self, ask: _Ask, found: Callable[[], Any]) -> None:
        """What is `found`; a mistake is told where the codes came from."""
        try:
            result, problem = found(), None
        except Exception as wrong:
            result, problem = None, wrong if isinstance(wrong, MmptError) else RuntimeError(repr(wrong))
        with self._lock, suppress(OSError):  # nobody is there any more: this process is about to end
            self._connection.send((ask.number, result, problem))


def _answer_sounds(decode: decode_with, sounds: list[_Ask], tell: _Telling) -> None:
    found: list[Decoded] = []
    if len(sounds) > 1:
        try:
            found = decode.sounds([ask.codes for ask in sounds])
        except Exception:  # of one of them: each then by itself
            found = []
    for number, ask in enumerate(sounds):
        tell.of(ask, lambda ask=ask, number=number: found[number] if found else decode("speech", ask.codes))


class _Streams:
    """The streams that are open in a decoding process."""

    def __init__(self, tokenizer: MultimodalTokenizer) -> None:
        self._decode, self._open = decode_with(tokenizer), dict[int, tuple[ExitStack, SoundStream]]()

    def obey(self, ask: _Ask, tell: _Telling) -> None:
        if ask.what == "leave":
            if ask.stream in self._open:  # else it went with the process before this one
                self._open.pop(ask.stream)[0].close()
            return
        tell.of(ask, lambda: self._step(ask))

    def _step(self, ask: _Ask) -> int | np.ndarray | tuple[np.ndarray, int]:
        """What is heard, and how many codes are silent then."""
        if ask.what == "speaking":
            stack = ExitStack()
            self._open[ask.stream] = stack, (begun := stack.enter_context(self._decode.speaking()))
            return begun.silent
        if ask.stream not in self._open:
            raise DataError("the process that was speaking has died")
        stream = self._open[ask.stream][1]
        return stream.finish() if ask.what == "finish" else (stream.push(ask.codes), stream.silent)
