"""Pictures and audio between bytes and arrays, with size limits that hold before anything is decoded."""

import io
import re
import warnings

import numpy as np
import soundfile
import soxr
from PIL import Image, ImageOps, UnidentifiedImageError

from mmpt.errors import DataError

MAX_PIXELS = 64_000_000
MAX_SECONDS = 4 * 3600.0


def reason(problem: Exception) -> str:
    """What a library says, without the address of an object in it: the same from run to run."""
    return re.sub(r" <_io\.BytesIO[^>]*>", "", str(problem))


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode PNG, JPEG, WebP or GIF bytes (of a moving picture its first frame) to an RGB picture, upright by EXIF, transparency
    laid on white.

    Raises `DataError` where the bytes are no whole picture, or it has more than `max_pixels` pixels (checked in the header).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF"))
        if picture.width * picture.height > max_pixels:
            raise DataError(f"picture of {picture.width} x {picture.height} pixels, at most {max_pixels} are decoded")
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            values = np.asarray(picture, dtype=np.float32)
            picture = Image.fromarray((values * (255.0 / 65535.0)).clip(0, 255).astype(np.uint8))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None


def picture_size(data: bytes) -> tuple[int, int]:
    """(Width, height) of PNG, JPEG, WebP or GIF bytes by their header, nothing is decoded. Raises `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF")).size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None


def sound_size(data: bytes) -> tuple[int, int, int]:
    """(Samples of a channel, channels, Hz) of WAV, FLAC, OGG or MP3 bytes by their header, nothing is decoded. Raises
    `DataError`."""
    try:
        found = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    return found.frames, found.channels, found.samplerate


def encode_png(picture: Image.Image) -> bytes:
    """PNG bytes of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_speech(data: bytes, sample_rate: int = 16_000, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Decode WAV, FLAC, OGG or MP3 bytes to mono float32 [samples] at `sample_rate` Hz (channels averaged, soxr resampling).

    Raises `DataError` where the bytes are no whole audio, hold no sample, hold NaN, or last longer than `max_seconds`.
    """
    if data[:4] == b"RIFF":  # libsndfile takes a WAV that was cut short for a shorter one; streams write no or all bits as size
        size = int.from_bytes(data[4:8], "little")
        if len(data) - 8 < size < 0xFFFFFFFF:
            raise DataError(f"audio cut short: {len(data)} of {size + 8} bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames > max_seconds * file.samplerate:
                raise DataError(f"audio of {file.frames / file.samplerate:.0f} s, at most {max_seconds:.0f} s are decoded")
            frames, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    if len(samples) < frames:
        raise DataError(f"audio cut short: {len(samples)} of {frames} samples")
    samples = samples.mean(axis=1)
    if not len(samples):
        raise DataError("audio without a single sample")
    if not np.isfinite(samples).all():
        raise DataError("audio holds NaN or infinity")
    return samples if rate == sample_rate else soxr.resample(samples, rate, sample_rate).astype(np.float32)


def encode_flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """16-bit FLAC bytes of mono float32 samples in −1 … 1 (clipped there)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def encode_wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """16-bit WAV bytes of mono float32 samples in −1 … 1 (clipped there)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
