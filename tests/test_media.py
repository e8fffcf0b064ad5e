"""Bytes to arrays: sound results or a clear error, before anything large is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech, encode_flac, encode_png, encode_wav


def test_picture_round_trip():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode_image(encode_png(Image.fromarray(pixels)))), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    picture = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16)) if mode == "I;16" else Image.new(mode, (4, 4), 0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    decoded = decode_image(buffer.getvalue())
    assert decoded.mode == "RGB"
    expected = {"I;16": 255, "RGBA": 255, "LA": 255}.get(mode)  # white: full scale, or transparent over white
    if expected:
        assert np.asarray(decoded).min() == expected


def test_exif_rotation_is_applied():
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue()).size == (2, 4)


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 12_000, 10_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(DataError, match="12000 x 10000"):
        decode_image(data)


@pytest.mark.parametrize("data", [b"", b"no picture at all", encode_png(Image.new("RGB", (64, 64)))[:60]])
def test_no_picture(data):
    with pytest.raises(DataError):
        decode_image(data)


@pytest.mark.parametrize("encode", [encode_flac, encode_wav])
def test_audio_round_trip(encode):
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    assert np.abs(decode_speech(encode(samples, 16000)) - samples).max() < 1.1 / 32768


def test_stereo_is_averaged_and_rate_converted():
    time = np.arange(48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone, 0 * tone], axis=1), 48_000, format="WAV")
    samples = decode_speech(buffer.getvalue())
    assert samples.dtype == np.float32 and len(samples) == 16_000
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(samples - expected)[200:-200].max() < 1e-3


def test_no_audio():
    whole = encode_flac(np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32), 16000)
    nan = io.BytesIO()
    soundfile.write(nan, np.full(10, np.nan, dtype=np.float32), 16000, format="WAV", subtype="FLOAT")
    for data in (b"", b"no audio", whole[: len(whole) // 2], encode_wav(np.zeros(0, dtype=np.float32), 16000), nan.getvalue()):
        with pytest.raises(DataError):
            decode_speech(data)
    with pytest.raises(DataError, match="at most"):
        decode_speech(whole, max_seconds=0.5)
