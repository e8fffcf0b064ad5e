"""What a speech tokenizer keeps: recognition through its codes, its codebook, its sound, its speed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pystoi import stoi

from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.intervals import Measure, mean_measure
from mmpt.evaluation.metrics.judges import JUDGES
from mmpt.evaluation.metrics.recognition import error_rates, word_error_rate
from mmpt.media import resampled
from mmpt.results import Figure
from mmpt.tokenizers.codebook_health import code_counts, codebook_health
from mmpt.tokenizers.speech.config import SoundGates
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

SHORTEST = 0.6
"""Seconds; STOI needs some 0.4 s of speech."""


@dataclass(frozen=True)
class SpeechEvaluation:
    """`figures` by name; for each utterance what was `read` through its codes and its `decoded` waveform, at 16 kHz; `counts`
    [codes]."""

    figures: dict[str, float]
    read: list[str]
    decoded: list[np.ndarray]
    counts: list[int]


def evaluate_speech_tokenizer(
    tokenizer: SpeechTokenizer,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
    read_by: Callable[[list[np.ndarray]], list[str]] | None = None,
    judges: Sequence[str] = (),
) -> SpeechEvaluation:
    """Figures over utterances (float32 [samples] at 16 kHz) and their `texts`.

    `wer`: read through the quantised states. `bits_per_second`: log2 of the codebook's size for each code; `entropy_bits`: what
    they carry, by their frequencies. `reconstruction_wer`: of the decoded waveforms, each in the voice of its original, as
    `read_by` reads them (by default the tokenizer itself, which knows its own mistakes). `mel_distance`: mean |difference| of the
    log10 power of mel bands. `stoi`: short-time objective intelligibility (Taal et al. 2011). Of `judges` (see
    `mmpt.evaluation.metrics.judges`), the mean. What others judge has its 95 % interval beside it, `_low` and `_high`. Real-time
    factors are wall seconds for a second of speech. A tokenizer without a quantiser has a `wer` alone.
    """
    rate = tokenizer.sample_rate
    seconds = sum(map(len, waveforms)) / rate
    read = tokenizer.recognize(waveforms)
    figures = {"utterances": float(len(texts)), "seconds": seconds, "wer": word_error_rate(texts, read)}
    if not tokenizer.codes:
        return SpeechEvaluation(figures, read, [], [])
    began = time.perf_counter()
    codes = tokenizer.encode(waveforms)
    encoding = time.perf_counter() - began
    voices = [tokenizer.voice(samples) for samples in waveforms]
    began = time.perf_counter()
    decoded = [tokenizer.decode([row], voice)[0] for row, voice in zip(codes, voices, strict=True)]
    decoding = time.perf_counter() - began
    heard = [resampled(sound, tokenizer.sound_rate, rate) for sound in decoded]
    heard = [sound[: len(samples)] for sound, samples in zip(heard, waveforms, strict=True)]
    counts = code_counts(torch.from_numpy(np.concatenate(codes)), tokenizer.codes)
    health = codebook_health(counts)
    books = counts.reshape(tokenizer.config.quantizer.depth, -1)
    spoken = error_rates(texts, (read_by or tokenizer.recognize)(heard))[0]
    judged = [mean_measure(name, kept) for name in judges if (kept := known(JUDGES[name](waveforms, heard)))]
    figures |= {
        "codes": float(tokenizer.codes),
        "codes_per_second": tokenizer.rate,
        "codes_used": health["used"],
        "perplexity": health["perplexity"],
        "entropy": health["entropy"],
        "bits_per_second": tokenizer.figures.bits,
        "entropy_bits": tokenizer.config.vector_rate * sum(float(np.log2(codebook_health(one)["perplexity"])) for one in books),
        "reconstruction_wer": spoken.value,
        **(_interval("reconstruction_wer", spoken) if read_by else {}),
        "mel_distance": float(np.mean([mel_distance(*pair) for pair in zip(waveforms, heard, strict=True)])),
        "stoi": mean_stoi(waveforms, heard, rate),
        "encoding_rtf": encoding / seconds,
        "decoding_rtf": decoding / seconds,
    }
    for one in judged:
        figures |= {one.name: one.value, **_interval(one.name, one)}
    return SpeechEvaluation(figures, read, heard, [int(count) for count in counts.tolist()])


def sound_gates(figures: dict[str, float], gates: SoundGates) -> list[Figure]:
    """The figures that `gates` bars, with their bars. Raises `ConfigError` naming one that was not measured."""
    bars = gates.model_dump(exclude={"listener"}, exclude_none=True)
    if missing := [name for name in bars if not np.isfinite(figures.get(name, np.nan))]:
        raise ConfigError(f"gates: {', '.join(missing)} was not measured")
    return [Figure(name, figures[name], bar, at_most=name == "reconstruction_wer") for name, bar in bars.items()]


def known(values: Sequence[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if np.isfinite(value)]


def _interval(name: str, found: Measure) -> dict[str, float]:
    return {f"{name}_low": found.low, f"{name}_high": found.high}


def mel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean |difference| of the log10 power of mel bands, of two waveforms (float32, 16 kHz) of one length: `log_mel` is half of
    that."""
    frames = max(1, len(one) // 160)
    mels = [log_mel(torch.from_numpy(samples), 80, frames) for samples in (one, other)]
    return float(2 * (mels[0] - mels[1]).abs().mean())


def mean_stoi(originals: Sequence[np.ndarray], decoded: Sequence[np.ndarray], rate: int) -> float:
    """Mean short-time objective intelligibility of those of at least `SHORTEST` seconds; NaN where there is none."""
    pairs = [(one, other) for one, other in zip(originals, decoded, strict=True) if len(one) >= SHORTEST * rate]
    return float(np.mean([stoi(one, other, rate) for one, other in pairs])) if pairs else float("nan")
