"""Parts keep the bytes that can be read to the end, and say why others cannot."""

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import ExifTags
from PIL import Image as Pillow

from mmpt.data.parts import image_part, speech_part
from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech, encode_flac, encode_wav

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(PIXELS).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("format", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_formats_that_are_kept_keep_their_bytes(format, suffix):
    part = image_part(encoded(format), "alt")
    assert (part.data, part.suffix, part.width, part.height, part.alt) == (encoded(format), suffix, 9, 6, "alt")


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF"])
def test_other_formats_become_png_of_the_same_pixels(format):
    part = image_part(encoded(format))
    assert part.suffix == "png" and part.data.startswith(b"\x89PNG")
    assert np.array_equal(decode_image(part.data), Pillow.open(io.BytesIO(encoded(format))).convert("RGB"))


def test_sides_are_those_of_the_upright_picture():
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = 6
    part = image_part(encoded("JPEG", exif=exif))
    assert (part.width, part.height) == (6, 9) == decode_image(part.data).size


def test_pictures_that_cannot_be_read_are_refused_before_they_cost_memory():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000))]
    chunk = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    for data, reason in [
        (b"", "of 0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + chunk, "decompression bomb"),
        (b"\x89PNG\r\n\x1a\n" + chunk.replace(header, struct.pack(">IIBBBBB", 10_000, 9_000, 8, 2, 0, 0, 0)), "at most|decoded"),
        (encoded("JPEG")[:-40], "no picture that can be decoded"),
        (b"<svg/>", "no picture that can be decoded"),
    ]:
        with pytest.raises(DataError, match=reason):
            image_part(data)


def test_recordings_stay_as_they_are_or_are_cut_to_the_sample():
    samples = np.sin(np.arange(16_000) / 5).astype(np.float32) * 0.5
    part = speech_part(encode_wav(samples, 8000), "text")
    assert (part.suffix, part.sample_rate, part.duration, part.text) == ("wav", 8000, 2.0, "text")
    assert part.data == encode_wav(samples, 8000)
    piece = speech_part(encode_flac(samples, 8000), start=0.5, duration=1.0)
    assert (piece.suffix, piece.duration) == ("flac", 1.0)
    assert np.allclose(decode_speech(piece.data, 8000), samples[4000:12000], atol=1e-4)


def test_recordings_that_are_not_what_they_should_be_are_refused():
    samples = np.full(8000, 0.1, dtype=np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(800, np.nan, dtype=np.float32), 8000, format="WAV", subtype="FLOAT")
    for data, options, reason in [
        (b"", {}, "of 0 bytes"),
        (encode_wav(samples, 8000)[:44], {}, "cut short: 44 of 16044 bytes"),
        (encode_flac(samples, 8000)[:-60], {}, "decoded|cut short"),
        (encode_wav(samples, 8000), {"sample_rate": 16_000}, "8000 Hz, expected 16000 Hz"),
        (encode_wav(samples, 8000), {"start": 0.5, "duration": 0.6}, "has no piece from 0.5 s to 1.10 s"),
        (encode_wav(samples, 8000), {"max_seconds": 0.5}, "at most 0 s|at most 1 s"),
        (buffer.getvalue(), {}, "NaN"),
    ]:
        with pytest.raises(DataError, match=reason):
            speech_part(data, **options)
