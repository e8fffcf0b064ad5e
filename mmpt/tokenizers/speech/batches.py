"""Training batches of speech with its text, each a pure function of the step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch

from mmpt.errors import DataError
from mmpt.tokenizers.speech.augment import disturb, warp
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.features import SILENCE
from mmpt.tokenizers.speech.lessons import Heard, Lesson

_POOL = 16  # batches whose utterances are sorted by length together


@dataclass(frozen=True)
class SpeechExample:
    """`samples` float32 [samples] at 16 kHz in −1 … 1, and what is said in them."""

    samples: np.ndarray
    text: str


class Utterance(NamedTuple):
    """What a batch takes of an example: `mel` float32 [codes · frames_per_code, mels] of its `samples` samples, `text`, and of a
    fixed encoder what it hears, `hidden` float16 [codes, any], and what is to be read of it."""

    mel: torch.Tensor
    text: str
    samples: int
    hidden: torch.Tensor | None = None
    lesson: Lesson | None = None

    @property
    def nbytes(self) -> int:
        return self.mel.nbytes + len(self.text) + sum(one.nbytes for one in (self.hidden, self.lesson) if one is not None)


@dataclass(frozen=True)
class SpeechBatch:
    """`spoken` [B, T, mels]: the log-mel to be spoken; `heard` [B, T, mels]: the same, disturbed; zero past the end.
    `lengths` [B] int64 in codes; `texts` one for each; of a fixed encoder what it hears, `hidden` [B, C, any], and what is to
    be read of it, `lessons` one for each, else None and none."""

    spoken: torch.Tensor
    heard: torch.Tensor
    lengths: torch.Tensor
    texts: tuple[str, ...]
    hidden: torch.Tensor | None = None
    lessons: tuple[Lesson, ...] = ()

    def to(self, device: torch.device) -> "SpeechBatch":
        hidden = None if self.hidden is None else self.hidden.to(device)
        mels = self.spoken.to(device), self.heard.to(device)
        return SpeechBatch(*mels, self.lengths.to(device), self.texts, hidden, self.lessons)


class Plan(Protocol):
    """What is needed of a fit configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def seed(self) -> int: ...


Hear = Callable[[torch.Tensor, str], Heard]
"""The log-mel [T, mels] of an utterance and its transcript → what a fixed encoder hears, and what is to be read of it."""


def utterance(example: SpeechExample, config: SpeechConfig, hear: Hear | None = None) -> Utterance:
    """What batches take of `example`: about 115 MB for an hour of speech with 80 mel bands. `hear`: a fixed encoder's. Raises
    `DataError` where that finds nothing to be learned from."""
    codes = code_count(len(example.samples), config)
    mel = config.encoder.features(torch.from_numpy(example.samples), config.mels, codes * config.frames_per_code)
    if hear is None:
        return Utterance(mel, example.text, len(example.samples))
    heard = hear(mel, example.text)
    return Utterance(mel, example.text, len(example.samples), heard.hidden.half().cpu(), heard.lesson)


def utterance_batches(
    utterances: Sequence[Utterance], samples: np.ndarray, config: SpeechConfig, fit: Plan
) -> Callable[[int, int, int], SpeechBatch]:
    """(step, rank, ranks) → that rank's share of the batch of the step, the same utterances for any number of ranks. Every epoch
    goes through all utterances in a new order, those of like length together. `samples` int64 [utterances]: how long each is.

    An utterance is asked for when it is in the batch, from several threads where batches are. Raises `DataError` without any.
    """
    if not len(utterances):
        raise DataError("no speech to train on")
    counts = np.maximum(1, -(-samples // config.samples_per_code))  # `code_count` of all at once
    per_epoch = math.ceil(len(utterances) / fit.batch_size)

    @lru_cache(maxsize=2)  # batches are made ahead, some of them of the next epoch
    def order(epoch: int) -> np.ndarray:
        return epoch_order(counts, fit.batch_size, per_epoch, fit.seed, epoch)

    def batch(step: int, rank: int = 0, ranks: int = 1) -> SpeechBatch:
        epoch, place = divmod(step, per_epoch)
        share = fit.batch_size // ranks
        places = range(rank * share, (rank + 1) * share)
        chosen = [utterances[i] for i in order(epoch)[place][places].tolist()]
        draws = [np.random.default_rng([fit.seed, 1, step, number]) for number in places]
        texts, fixed = tuple(one.text for one in chosen), [one.hidden for one in chosen if one.hidden is not None]
        varied = [one.mel if fixed else _vary(one.mel, config, random) for one, random in zip(chosen, draws, strict=True)]
        spoken = _stack([mel.clamp_min(SILENCE) for mel in varied])
        lengths = torch.tensor([len(mel) // config.frames_per_code for mel in varied])
        if fixed:
            lessons = tuple(one.lesson for one in chosen if one.lesson is not None)
            return SpeechBatch(spoken, spoken, lengths, texts, _stack([hidden.float() for hidden in fixed]), lessons)
        heard = [disturb(mel, config.augment, random) for mel, random in zip(varied, draws, strict=True)]
        return SpeechBatch(spoken, _stack(heard), lengths, texts)

    return batch


def code_count(samples: int, config: SpeechConfig) -> int:
    """How many codes `samples` samples have: at least one."""
    return max(1, math.ceil(samples / config.samples_per_code))


def why_not_trained(example: SpeechExample, config: SpeechConfig) -> str:
    """Why no batch can be made of `example`; else ""."""
    samples = example.samples
    if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples) or not np.isfinite(samples).all():
        return "expected finite float32 samples in one dimension"
    if code_count(len(samples), config) > config.window:
        longest = config.window * config.samples_per_code
        return f"{len(samples)} samples, at most {longest} fit the window of {config.window} codes"
    if not any(character.isalnum() for character in example.text):
        return f"no letter or digit in its text {example.text[:40]!r}"
    return ""


def epoch_order(counts: np.ndarray, batch_size: int, batches: int, seed: int, epoch: int) -> np.ndarray:
    """Indices [batches, batch_size] of one epoch; the last batch is filled up from the epoch's beginning."""
    random = np.random.default_rng([seed, 0, epoch])
    order = np.resize(random.permutation(len(counts)), batches * batch_size)
    for start in range(0, len(order), _POOL * batch_size):
        piece = order[start : start + _POOL * batch_size]
        order[start : start + _POOL * batch_size] = piece[np.argsort(counts[piece], kind="stable")]
    return random.permutation(order.reshape(batches, batch_size))


def _vary(mel: torch.Tensor, config: SpeechConfig, random: np.random.Generator) -> torch.Tensor:
    speed, pitch = (1 + random.uniform(-amount, amount) for amount in (config.augment.speed, config.augment.pitch))
    speed = max(speed, len(mel) / (config.window * config.frames_per_code))
    return warp(mel, speed, pitch, math.ceil(round(len(mel) / speed / config.frames_per_code, 6)) * config.frames_per_code)


def _stack(mels: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(mels, batch_first=True)
