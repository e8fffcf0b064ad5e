"""Parts of documents from the bytes of picture and audio files, decoded once to the end so that what is kept can be read."""

import io
import math
import warnings

import numpy as np
import soundfile
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as Pillow

from mmpt.document import Image, Speech
from mmpt.errors import DataError
from mmpt.media import MAX_PIXELS, MAX_SECONDS, decode_speech, encode_flac, encode_png, reason

MAX_BYTES = 512 << 20
"""Largest file that is opened as one picture or recording."""
_KEPT = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
_CONVERTED = ("GIF", "BMP", "TIFF")
_CODECS = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}


def image_part(data: bytes, alt: str = "", max_pixels: int = MAX_PIXELS) -> Image:
    """A picture part. PNG, JPEG and WebP bytes stay as they are; GIF (first frame), BMP and TIFF become PNG.

    Raises `DataError` where the bytes are empty, too large, no whole picture, or of more than `max_pixels` pixels.
    """
    _check_size(data, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            header = Pillow.open(io.BytesIO(data), formats=(*_KEPT, *_CONVERTED))
        if header.width * header.height > max_pixels:
            raise DataError(f"picture of {header.width} x {header.height} pixels, at most {max_pixels} are decoded")
        header.load()
        if header.format in _CONVERTED:
            data = encode_png(header.convert("RGBA" if "transparency" in header.info or "A" in header.mode else "RGB"))
        turned = header.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by a quarter, so that the sides change places
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as problem:
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None
    width, height = header.size[::-1] if turned else header.size
    return Image(data, _KEPT.get(header.format, "png"), width, height, alt)


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

    A whole WAV, FLAC, OGG or MP3 file stays as it is. With `start` or `duration` (seconds) that piece is cut out, mono, as
    FLAC at its own rate. `sample_rate` (Hz), where given, is what the file must have. Raises `DataError` where the bytes are
    empty, no whole audio, of another rate, too long, or do not reach to the end of the piece.
    """
    _check_size(data, "recording")
    try:
        info = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    if info.format not in _CODECS:
        raise DataError(f"audio of the format {info.format}, expected {', '.join(sorted(set(_CODECS.values())))}")
    if sample_rate is not None and info.samplerate != sample_rate:
        raise DataError(f"audio of {info.samplerate} Hz, expected {sample_rate} Hz")
    samples = decode_speech(data, info.samplerate, max_seconds)
    if start == 0.0 and duration is None:
        return Speech(data, _CODECS[info.format], info.samplerate, len(samples) / info.samplerate, text, words)
    piece = _cut(samples, info.samplerate, start, duration)
    return Speech(encode_flac(piece, info.samplerate), "flac", info.samplerate, len(piece) / info.samplerate, text, words)


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
