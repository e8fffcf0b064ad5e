"""Folders or shards of speech to lines of codes, and lines of codes to audio files."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from rich.progress import Progress

from mmpt.data.codes_file import MediumCoder, Speed, encode_media, lines_to_decode
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.media import decode_speech, encode_flac
from mmpt.storage import write_bytes
from mmpt.tokenizers.interface import AnySpeechTokenizer
from mmpt.tokenizers.speech.coder import SpeechCoder

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_TOGETHER = 600.0  # seconds of audio


def encode_speech(tokenizer: AnySpeechTokenizer | SpeechCoder, source: Path | str, out: Path, progress: Progress) -> Speed:
    """`encode_media` of speech; a line tells the `seconds` too."""
    rate = tokenizer.sample_rate

    def encode(sounds: Sequence[np.ndarray]) -> list[dict]:
        rows = tokenizer.encode(list(sounds))
        return [{"seconds": len(one) / rate, "codes": row.tolist()} for one, row in zip(sounds, rows, strict=True)]

    medium = MediumCoder(
        part=Speech,
        suffixes=SUFFIXES,
        unit="seconds of speech",
        together=_TOGETHER,
        decode=lambda data: decode_speech(data, rate),
        size=lambda samples: len(samples) / rate,
        encode=encode,
    )
    return encode_media(medium, source, out, progress)


def decode_codes(
    tokenizer: AnySpeechTokenizer, source: Path, out: Path, progress: Progress, voice: np.ndarray | None = None
) -> Speed:
    """A FLAC file in `out` for each line of the codes file `source` (or of `source`/codes.jsonl), named by its id, spoken in
    `voice` or the tokenizer's default one. Raises `DataError` naming a line that holds no codes of this tokenizer."""
    lines = lines_to_decode(source, out, SUFFIXES, ".flac")
    left = [(line, target) for line, target in lines if not target.exists()]
    task = progress.add_task("decoding", total=len(lines), completed=len(lines) - len(left))
    began, seconds, stream = time.perf_counter(), 0.0, iter(left)
    while batch := list(islice(stream, 64)):
        try:
            sounds = tokenizer.decode([np.array(line["codes"]) for line, _ in batch], voice)
        except DataError as problem:
            names = ", ".join(line["id"] for line, _ in batch[:3])
            raise DataError(f"{source}: among {names}, …: {problem}") from None
        for (_, target), samples in zip(batch, sounds, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, encode_flac(samples, tokenizer.sound_rate))
            seconds += len(samples) / tokenizer.sound_rate
        factor = (time.perf_counter() - began) / seconds
        progress.update(task, advance=len(batch), description=f"decoding: real-time factor {factor:.4f}")
    return Speed(len(left), seconds, "seconds of speech", time.perf_counter() - began, 0, len(lines) - len(left))
