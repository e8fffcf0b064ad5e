"""Codes of a block to the picture or the sound they stand for: here, or in a process beside this one."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

import numpy as np
import torch

from mmpt.document import Image, Speech
from mmpt.errors import VocabularyError
from mmpt.media import encode_png, encode_wav
from mmpt.modality import Medium
from mmpt.tokenizers.image.renderers import Renderer, chosen_renderer
from mmpt.tokenizers.multimodal import MultimodalTokenizer


class Decoded(NamedTuple):
    """The part, and of speech its samples float32 [n]."""

    part: Image | Speech
    samples: np.ndarray | None


Decode = Callable[[Medium, np.ndarray], Decoded]
"""(What the codes are of, codes int64 [n]) → what they stand for."""


def decode_with(tokenizer: MultimodalTokenizer, voice: np.ndarray | None = None) -> Decode:
    """By the decoders of `tokenizer`, in this process."""

    def decode(kind: Medium, codes: np.ndarray) -> Decoded:
        if kind == "image" and tokenizer.image is not None:
            (picture,) = tokenizer.image.render(codes[None])
            return Decoded(Image(encode_png(picture), "png", picture.width, picture.height), None)
        if kind == "image" or tokenizer.speech is None:  # the grammar opens no block without codes
            raise VocabularyError(f"codes of {kind}, but no {kind} tokenizer")
        (samples,) = tokenizer.speech.decode([codes], voice)
        return Decoded(spoken(samples, tokenizer.speech.sound_rate), samples)

    return decode


def spoken(samples: np.ndarray, sample_rate: int) -> Speech:
    """A WAV of `samples` float32 [n]."""
    return Speech(encode_wav(samples, sample_rate), "wav", sample_rate, len(samples) / sample_rate)


class DecodingProcess:
    """Decodes in a process of its own, with the tokenizers of `checkpoint`: on a CPU, sound takes as long as the decoder LLM
    itself, and two threads of one Python would wait for each other. A process that is killed is replaced. Use it in a `with`."""

    def __init__(self, checkpoint: Path, renderer: Renderer | None = None) -> None:
        """`renderer`: what draws images instead of the image tokenizer's own choice."""
        self._checkpoint, self._lock = str(checkpoint), Lock()
        self._renderer = renderer and renderer.model_dump_json()

    def __enter__(self) -> Decode:
        self._pool = self._started()
        return self._decode

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork would copy the locks of this process's threads as they stand.
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.submit(_ready, self._checkpoint, self._renderer).result()
        return pool

    def _decode(self, kind: Medium, codes: np.ndarray) -> Decoded:
        pool = self._pool
        try:
            return pool.submit(_decode, self._checkpoint, self._renderer, kind, codes).result()
        except BrokenProcessPool:
            with self._lock:
                # Several threads may have met the same death: the first of them starts the new process for all.
                if self._pool is pool:
                    self._pool = self._started()
            return self._pool.submit(_decode, self._checkpoint, self._renderer, kind, codes).result()


def _decode(checkpoint: str, renderer: str | None, kind: Medium, codes: np.ndarray) -> Decoded:
    return decode_with(_tokenizer(checkpoint, renderer))(kind, codes)


def _ready(checkpoint: str, renderer: str | None) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    _tokenizer(checkpoint, renderer)


def _end_with_parent() -> None:
    """A parent that is killed says nothing to its pool, whose processes would wait for work for ever."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


@lru_cache(maxsize=1)
def _tokenizer(checkpoint: str, renderer: str | None) -> MultimodalTokenizer:
    """Loaded once in the process; `renderer` as JSON."""
    torch.set_num_threads(1)
    tokenizer = MultimodalTokenizer.of_checkpoint(Path(checkpoint))
    tokenizer.render_by(chosen_renderer(renderer))
    return tokenizer
