"""Parts of documents from the bytes of picture and audio files, decoded once to the end so that what is kept can be read."""

import math

import numpy as np

from mmpt.document import Image, Speech
from mmpt.errors import DataError
from mmpt.media import MAX_PIXELS, MAX_SECONDS, Sound, encode_flac, open_image, open_sound, to_png, upright

MAX_BYTES = 512 << 20
"""Largest file that is opened as one picture or recording."""
_KEPT = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}
_CONVERTED = ("GIF", "BMP", "TIFF", "AVIF")


def image_part(data: bytes, alt: str = "", max_pixels: int = MAX_PIXELS) -> Image:
    """A picture part. PNG, JPEG and WebP bytes stay as they are (MPO, several JPEGs in one file, counts as its first); GIF and
    TIFF (the first frame or page), BMP and AVIF become PNG.

    Raises `DataError` where the bytes are empty, too large, no whole picture, or of more than `max_pixels` pixels.
    """
    _check_size(data, "picture")
    picture = open_image(data, ("PNG", "JPEG", "WEBP", *_CONVERTED), max_pixels)
    if picture.format in _CONVERTED:
        data = to_png(picture)
    width, height = upright(picture).size
    return Image(data, _KEPT.get(picture.format or "", "png"), width, height, alt)


def speech_part(
    data: bytes,
    text: str = "",
    words: tuple[tuple[str, float, float], ...] = (),
    *,
    start: float = 0.0,
    duration: float | None = None,
    sample_rate: int | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Speech:
    """A speech part with its transcript and word times (seconds from its own start).

    A whole WAV, FLAC, OGG or MP3 file stays as it is, if libsndfile reads it to the end; any other (AIFF, SPHERE, W64, RF64, MP4,
    WebM, MP3 without a Xing header, …) becomes mono FLAC. With `start` or `duration` (seconds) that piece is cut out, mono, as
    FLAC at its own rate. `sample_rate` (Hz), where given, is what the file must have. Raises `DataError` where the bytes are
    empty, no whole audio, of another rate, too long, or do not reach to the end of the piece.
    """
    sound = opened(data, sample_rate, max_seconds)
    if start != 0.0 or duration is not None:
        return piece_of(sound, start, duration, text, words)
    rate, length, suffix = sound.sample_rate, len(sound.samples), sound.suffix or "flac"
    return Speech(data if sound.suffix else encode_flac(sound.samples, rate), suffix, rate, length / rate, text, words)


def opened(data: bytes, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS) -> Sound:
    """A recording decoded, of which pieces are cut. Raises `DataError` as `speech_part` does."""
    _check_size(data, "recording")
    sound = open_sound(data, max_seconds)
    if sample_rate is not None and sound.sample_rate != sample_rate:
        raise DataError(f"audio of {sound.sample_rate} Hz, expected {sample_rate} Hz")
    return sound


def piece_of(
    sound: Sound, start: float, duration: float | None, text: str = "", words: tuple[tuple[str, float, float], ...] = ()
) -> Speech:
    """The piece of `duration` seconds from `start`, as FLAC. Raises `DataError` where the sound does not reach so far."""
    piece = _cut(sound.samples, sound.sample_rate, start, duration)
    return Speech(encode_flac(piece, sound.sample_rate), "flac", sound.sample_rate, len(piece) / sound.sample_rate, text, words)


def _cut(samples: np.ndarray, rate: int, start: float, duration: float | None) -> np.ndarray:
    if not math.isfinite(start + (duration or 0.0)):
        raise DataError(f"no piece of {duration} s from {start} s")
    first = round(start * rate)
    last = len(samples) if duration is None else first + round(duration * rate)
    # Durations in manifests are rounded, so a hundredth of a second may be missing at the end.
    if not 0 <= first < last or last > len(samples) + rate // 100:
        raise DataError(f"audio of {len(samples) / rate:.2f} s has no piece from {start} s to {last / rate:.2f} s")
    return samples[first:last]


def _check_size(data: bytes, what: str) -> None:
    if not data:
        raise DataError(f"{what} of 0 bytes")
    if len(data) > MAX_BYTES:
        raise DataError(f"{what} of {len(data)} bytes, at most {MAX_BYTES} are opened")
