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


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "AVIF"])
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
        (encode_wav(samples, 8000)[:44], {}, "cut short: 36 of 16036 bytes"),
        (encode_flac(samples, 8000)[:-60], {}, "decoded|cut short"),
        (encode_wav(samples, 8000), {"sample_rate": 16_000}, "8000 Hz, expected 16000 Hz"),
        (encode_wav(samples, 8000), {"start": 0.5, "duration": 0.6}, "has no piece from 0.5 s to 1.10 s"),
        (encode_wav(samples, 8000), {"max_seconds": 0.5}, "at most 0 s|at most 1 s"),
        (buffer.getvalue(), {}, "NaN"),
    ]:
        with pytest.raises(DataError, match=reason):
            speech_part(data, **options)


def picture_bytes(picture: Pillow.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_a_gradient_of_more_than_eight_bits_stays_that_gradient():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    sixteen = Pillow.fromarray(ramp.astype(np.uint16) * 257)
    floats = [Pillow.fromarray(ramp.astype(np.float32) * scale) for scale in (1 / 255, 1, 257)]
    cases = [(sixteen, "TIFF"), (sixteen, "PNG"), *((picture, "TIFF") for picture in floats)]
    for picture, format in cases:
        pixels = np.asarray(decode_image(image_part(picture_bytes(picture, format)).data))
        assert np.abs(pixels.astype(int) - ramp[..., None]).max() <= 1, (picture.mode, format)
    for value in (np.nan, 1e9):
        with pytest.raises(DataError, match="no known scale"):
            image_part(picture_bytes(Pillow.fromarray(np.full((2, 2), value, dtype=np.float32)), "TIFF"))


def test_of_pages_the_first_is_kept_and_a_photograph_of_several_is_a_jpeg():
    red, blue = Pillow.new("RGB", (8, 6), "red"), Pillow.new("RGB", (8, 6), "blue")
    pages = image_part(picture_bytes(red, "TIFF", save_all=True, append_images=[blue]))
    assert pages.suffix == "png" and decode_image(pages.data).getpixel((3, 3)) == (255, 0, 0)
    several = picture_bytes(red, "MPO", save_all=True, append_images=[blue])
    photograph = image_part(several)
    assert (photograph.suffix, photograph.data) == ("jpg", several)
    assert decode_image(photograph.data).getpixel((3, 3))[0] > 240


def test_converted_pictures_stay_upright_and_transparent():
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = image_part(picture_bytes(Pillow.fromarray(PIXELS), "TIFF", exif=exif))
    assert (turned.width, turned.height) == (6, 9) == decode_image(turned.data).size
    assert np.array_equal(np.asarray(decode_image(turned.data)), np.rot90(PIXELS, -1))
    glass = np.zeros((4, 4, 4), dtype=np.uint8)
    glass[1:3, 1:3] = (255, 0, 0, 255)
    part = image_part(picture_bytes(Pillow.fromarray(glass), "TIFF"))
    assert Pillow.open(io.BytesIO(part.data)).mode == "RGBA"
    assert decode_image(part.data).getpixel((0, 0)) == (255, 255, 255) and decode_image(part.data).getpixel((1, 1)) == (255, 0, 0)


def test_sound_that_libsndfile_does_not_read_to_the_end_is_kept_as_flac():
    samples = np.sin(np.arange(16_000) / 5).astype(np.float32) * 0.5
    for format in ("AIFF", "W64", "RF64", "NIST"):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 8000, format=format, subtype="PCM_16")
        part = speech_part(buffer.getvalue())
        assert (part.suffix, part.sample_rate, part.duration) == ("flac", 8000, 2.0), format
        assert np.abs(decode_speech(part.data, 8000) - samples).max() < 1e-4
        with pytest.raises(DataError, match="cut short"):
            speech_part(buffer.getvalue()[:-1000])
