"""Pictures and audio between bytes and arrays, with size limits that hold before anything is decoded."""

import importlib
import io
import re
import struct
import warnings
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from PIL import Image, ImageOps, UnidentifiedImageError

from mmpt.errors import DataError

MAX_PIXELS = 64_000_000
MAX_SECONDS = 4 * 3600.0
MAX_VALUES = 4 * 3600 * 384_000
_SCAN, _MAX_SCANS = b"\xff\xda", 100
_NO_PICTURE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_NO_SOUND = (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError)
_LISTED = re.compile(rb"RIFF....WAVE|fLaC|OggS|ID3|\xff[\xe0-\xff]", re.DOTALL)
"""How WAV, FLAC, OGG and MP3 begin."""
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_SUFFIXES = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}
_NO_SIZE = 0x7FFFF000
_FFMPEG_FORMATS = "mp3,aac,wav,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
_CUT_SHORT = 0.1
"""Seconds before the end which a file states for itself that its last packet may lie."""
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)


def reason(problem: Exception) -> str:
    """What a library says, without the address of an object in it: the same from run to run."""
    return re.sub(r" <_io\.BytesIO[^>]*>", "", str(problem))


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode PNG, JPEG, WebP or GIF bytes (of a moving picture its first frame) to the RGB picture that `to_rgb` makes of it.

    Raises `DataError` where the bytes are no whole picture, or it has more than `max_pixels` pixels (checked in the header).
    """
    return to_rgb(open_image(data, ("PNG", "JPEG", "WEBP", "GIF"), max_pixels))


def open_image(data: bytes, formats: tuple[str, ...], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first picture in bytes of one of Pillow's `formats`, decoded to the end, as the file holds it.

    Raises `DataError` where the bytes are no whole picture, or it has more than `max_pixels` pixels (checked in the header).
    """
    picture = _undecoded(data, formats)
    if picture.width * picture.height > max_pixels:
        raise DataError(f"picture of {picture.width} x {picture.height} pixels, at most {max_pixels} are decoded")
    try:
        picture.load()
        return picture
    except _NO_PICTURE as problem:
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None


def picture_size(data: bytes) -> tuple[int, int]:
    """(Width, height) of PNG, JPEG, WebP or GIF bytes by their header, nothing is decoded. Raises `DataError`."""
    return _undecoded(data, ("PNG", "JPEG", "WEBP", "GIF")).size


def _undecoded(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """The picture, of which only the header is read. Raises `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=formats)
    except _NO_PICTURE as problem:
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None
    # Each scan of a progressive JPEG passes over the whole picture, and may have as few bytes as its mark.
    if picture.format == "JPEG" and data.count(_SCAN) > _MAX_SCANS:
        raise DataError(f"no picture that can be decoded ({data.count(_SCAN)} scans, at most {_MAX_SCANS} are decoded)")
    return picture


def sound_size(data: bytes) -> tuple[int, int, int]:
    """(Samples of a channel, channels, Hz) of WAV, FLAC, OGG or MP3 bytes by their header, nothing is decoded. Raises
    `DataError`."""
    if not _LISTED.match(data[:12]):  # else libsndfile would try all that it knows
        raise DataError("no audio that can be decoded (expected WAV, FLAC, OGG or MP3)")
    try:
        found = soundfile.info(io.BytesIO(data))
    except _NO_SOUND as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    if found.format not in _SUFFIXES:
        raise DataError(f"no audio that can be decoded ({found.format}, expected WAV, FLAC, OGG or MP3)")
    return found.frames, found.channels, found.samplerate


def sized_sound(data: bytes, max_seconds: float = MAX_SECONDS, max_values: int = MAX_VALUES) -> tuple[bytes, int, int, int]:
    """(Bytes, and their `sound_size`). MP3 without a Xing header and a WAV of no stated length tell it only while they are
    decoded: they are, up to `max_seconds` and `max_values` of all channels, and become a WAV of float32. Raises `DataError`."""
    frames, channels, rate = sound_size(data)
    told = _xing_frames(data) if data[:4] not in (b"RIFF", b"fLaC", b"OggS") else frames or data[:4] != b"RIFF"
    if told:
        return data, frames, channels, rate
    try:
        values, rate, _ = _by_ffmpeg(data, max_seconds, max_values)
        out = io.BytesIO()
        soundfile.write(out, _mono(values), rate, format="WAV", subtype="FLOAT")
    except _NO_SOUND as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    return out.getvalue(), len(values), 1, rate


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB: upright by EXIF, 16-bit and float values scaled to 0 … 255, transparency laid on white.

    The one way from a picture to pixels, for bytes of a shard and for pictures given as they are. Raises `DataError` where
    EXIF is damaged, or float values have no known scale.
    """
    picture = _eight_bits(upright(picture))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def to_png(picture: Image.Image) -> bytes:
    """PNG bytes of any picture, upright, 8 bits a channel, with its transparency. Raises `DataError` as `to_rgb`."""
    picture = _eight_bits(upright(picture))
    return encode_png(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says. Raises `DataError` where its EXIF cannot be read."""
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, TypeError, struct.error) as problem:  # Pillow raises them all on damaged EXIF
        raise DataError(f"no picture that can be decoded ({reason(problem)})") from None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of integers of more than 8 bits, or of float values, as 8-bit grey: 0 is black, the full scale white.

    The full scale of integers is that of their bits. Float values state none: it is the least of 1, 255 and 65,535 that none
    exceeds.
    """
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture
    values = np.asarray(picture, dtype=np.float32)
    largest = float(values.max(initial=0.0))
    if not np.isfinite(values).all() or largest > 65535:
        raise DataError(f"no picture that can be decoded (values up to {largest:g} have no known scale)")
    tags = getattr(picture, "tag_v2", {})  # of TIFF
    if picture.mode == "F":
        scale = next(full for full in (1.0, 255.0, 65535.0) if largest <= full)
    else:
        scale = 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
    if tags.get(_PHOTOMETRIC) == 0 and picture.mode.startswith("I"):  # white is zero; Pillow turns only 8 bits round
        values = scale - values
    return Image.fromarray((values * (255.0 / scale)).clip(0, 255).astype(np.uint8))


def encode_png(picture: Image.Image) -> bytes:
    """PNG bytes of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


class Sound(NamedTuple):
    """Mono float32 [samples] at `sample_rate` Hz. `suffix` is that of the codec where libsndfile reads the bytes to the end
    (wav, flac, ogg, mp3), else empty: a reader of shards has only that library for certain."""

    samples: np.ndarray
    sample_rate: int
    suffix: str


def decode_speech(data: bytes, sample_rate: int = 16_000, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Decode the bytes of any recording that `open_sound` reads to mono float32 [samples] at `sample_rate` Hz, resampled by soxr.

    Raises `DataError` as `open_sound`.
    """
    samples, rate, _ = open_sound(data, max_seconds)
    return resampled(samples, rate, sample_rate)


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """float32 [samples] at `rate` Hz as the same sound at `wanted` Hz."""
    return samples if rate == wanted else soxr.resample(samples, rate, wanted).astype(np.float32)


def open_sound(data: bytes, max_seconds: float = MAX_SECONDS, max_values: int = MAX_VALUES) -> Sound:
    """Decode a recording: what libsndfile knows (WAV, FLAC, OGG, MP3, AIFF, SPHERE, W64, RF64, …), and by PyAV (extra `data`)
    MP3 without a Xing header, AAC, MP4 and WebM.

    Channels are averaged. Where the average has less than a hundredth of their power, as of channels of opposite phase, the
    loudest channel stands for them. Raises `DataError` where the bytes are no whole audio, hold no sample, hold NaN, or last
    longer than `max_seconds`; what PyAV reads has at most `max_values` of all channels.
    """
    try:
        channels, rate, suffix = _by_libsndfile(data, max_seconds) or _by_ffmpeg(data, max_seconds, max_values)
    except _NO_SOUND as problem:
        raise DataError(f"no audio that can be decoded ({reason(problem)})") from None
    if not channels.size:
        raise DataError("audio without a single sample")
    if not np.isfinite(channels).all():
        raise DataError("audio holds NaN or infinity")
    return Sound(_mono(channels), rate, suffix)


def _mono(channels: np.ndarray) -> np.ndarray:
    """Float32 [samples, channels] → [samples]."""
    mean = channels.mean(axis=1)
    if channels.shape[1] == 1:
        return mean
    powers = np.square(channels, dtype=np.float64).mean(axis=0)
    return channels[:, powers.argmax()].copy() if np.square(mean, dtype=np.float64).mean() < 0.01 * powers.mean() else mean


def _by_libsndfile(data: bytes, max_seconds: float) -> tuple[np.ndarray, int, str] | None:
    """[samples, channels], rate and suffix; None where another library should try. Raises `DataError`, `LibsndfileError`."""
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError):
        if _is_for_ffmpeg(data):
            return None
        raise
    with file:
        if file.format == "MP3" and not _xing_frames(data):
            return None  # the number of samples would be an estimate from the first frames, and reading stops there
        _check_whole(data, file)
        if file.format in ("WAV", "WAVEX") and not file.frames:
            return None  # written to a pipe with 0 as size, which libsndfile takes at its word
        if file.frames > max_seconds * file.samplerate:
            raise DataError(f"audio of {file.frames / file.samplerate:.0f} s, at most {max_seconds:.0f} s are decoded")
        samples = file.read(dtype="float32", always_2d=True)
        if len(samples) < file.frames:
            raise DataError(f"audio cut short: {len(samples)} of {file.frames} samples")
        return samples, file.samplerate, _SUFFIXES.get(file.format, "")


def _check_whole(data: bytes, file: soundfile.SoundFile) -> None:
    """Raise `DataError` where the header promises more than there is: libsndfile takes such a file for a shorter one.

    Sizes from 0x7FFFF000 on are what programs write that do not know it yet, such as into a pipe.
    """
    for promised, found in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
        if int(found) < int(promised) < _NO_SIZE:
            raise DataError(f"audio cut short: {found} of {promised} bytes")
    count = re.search(rb"sample_count -i (\d+)", data[:1024]) if file.format == "NIST" else None
    if count and int(count[1]) > file.frames:
        raise DataError(f"audio cut short: {file.frames} of {int(count[1])} samples")


def _xing_frames(data: bytes) -> bool:
    """Whether the first frame of an MP3 is a Xing or Info header that states the number of frames."""
    start = 0
    if data[:3] == b"ID3":  # its length in four bytes of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=False))
    head = re.search(rb"(?:Xing|Info)\0\0\0(.)", data[start : start + 256], re.DOTALL)
    return bool(head and head[1][0] & 1)


def _is_for_ffmpeg(data: bytes) -> bool:
    return (
        data[4:8] == b"ftyp" or data[:4] == b"\x1aE\xdf\xa3" or (data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xF6 == 0xF0)
    )


def _by_ffmpeg(data: bytes, max_seconds: float, max_values: int = MAX_VALUES) -> tuple[np.ndarray, int, str]:
    """As `_by_libsndfile`, by PyAV; its suffix is empty. Raises `DataError`."""
    try:
        av = importlib.import_module("av")
    except ModuleNotFoundError:
        raise DataError('audio of a kind that PyAV reads, which is not installed: pip install "mmpt[data]"') from None
    pieces, count, reached = [], 0, 0.0
    try:
        with av.open(
            io.BytesIO(data), container_options={"format_whitelist": _FFMPEG_FORMATS}, metadata_errors="replace"
        ) as file:
            stream = file.streams.best("audio")
            if stream is None:
                raise DataError("no sound in it")
            rate = stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="fltp")  # the layout and rate stay
            for packet in file.demux(stream):
                if file.format.name == "mp3" and packet.size:
                    _check_frame(bytes(packet), rate)
                if packet.pts is not None:
                    reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                for frame in packet.decode():
                    pieces += [one.to_ndarray() for one in resampler.resample(frame)]
                    count += frame.samples
                    if count > max_seconds * rate or count * len(pieces[0]) > max_values:
                        raise DataError(f"audio of more than {max_seconds:.0f} s, at most {max_seconds:.0f} s are decoded")
            pieces += [one.to_ndarray() for one in resampler.resample(None)] if pieces else []
            # What states no duration has an estimate of it.
            promised = file.duration / av.time_base if file.duration and file.format.name not in ("mp3", "aac", "wav") else 0.0
    except (av.FFmpegError, ValueError) as problem:
        raise DataError(f"no audio that can be decoded ({getattr(problem, 'strerror', None) or problem})") from None
    if reached < promised - _CUT_SHORT:
        raise DataError(f"audio cut short: {reached:.2f} of {promised:.2f} s")
    return (np.concatenate(pieces, axis=1).T if pieces else np.zeros((0, 1), dtype=np.float32)), rate, ""


def _check_frame(frame: bytes, rate: int) -> None:
    """Raise `DataError` where a frame of MPEG audio, layer III, is shorter than its header says (ISO/IEC 11172-3, 2.4.3.1)."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        return
    first = frame[1] & 0x18 == 0x18  # MPEG-1; else MPEG-2 or 2.5
    kbps = (_KBPS_1 if first else _KBPS_2)[frame[2] >> 4]
    size = (144_000 if first else 72_000) * kbps // rate + (frame[2] >> 1 & 1)
    if len(frame) < size:
        raise DataError(f"audio cut short: {len(frame)} of {size} bytes of a frame")


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
