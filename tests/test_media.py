"""Bytes to arrays: sound results or a clear error, before anything large is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech, encode_flac, encode_png, encode_wav, open_sound, to_rgb


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


def av_encoded(codec: str, container: str, rate: int, kbps: int, **options: str) -> tuple[bytes, int]:
    """A file of 2 s of a rising tone that then rests, by PyAV, and the number of samples that its packets hold."""
    av = pytest.importorskip("av")
    time = np.arange(2 * rate) / rate
    tone = (np.sin(2 * np.pi * (200 + 300 * time) * time) * (time < 1.5) * 16_000).astype(np.int16)
    buffer, packets = io.BytesIO(), []
    with av.open(buffer, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = kbps * 1000
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 1152
        resampler = av.AudioResampler(stream.codec_context.codec.audio_formats[0].name, "mono", rate, frame_size=size)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        for number, one in enumerate(frames):
            one.pts = number * size
            packets += stream.encode(one)
        packets += stream.encode(None)
        file.mux(packets)
    return buffer.getvalue(), len(packets) * size


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_without_a_xing_header_is_read_to_its_last_sample(rate):
    data, length = av_encoded("libmp3lame", "mp3", rate, 64, write_xing="0", id3v2_version="0")
    headers = data.count(data[:2])  # the sync word and version: one for each frame, at least
    sound = open_sound(data)
    assert (sound.suffix, sound.sample_rate) == ("", rate)
    per_frame = 576 if rate < 32_000 else 1152
    assert len(sound.samples) % per_frame == 0 and 2 * rate <= len(sound.samples) <= min(length, headers * per_frame)
    for cut in (1, 50, len(data) // 2 + 7):
        with pytest.raises(DataError, match="cut short|decoded"):
            open_sound(data[:-cut])


def test_mp3_with_a_xing_header_stays_and_has_the_samples_that_it_states():
    data, _ = av_encoded("libmp3lame", "mp3", 16_000, 64)
    sound = open_sound(data)
    assert (sound.suffix, len(sound.samples)) == ("mp3", 32_000)
    with pytest.raises(DataError, match="cut short"):
        open_sound(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("codec", "container", "rate"), [("aac", "ipod", 16_000), ("aac", "adts", 16_000), ("libopus", "webm", 48_000)]
)
def test_sound_of_telephones_and_browsers_is_read(codec, container, rate):
    data, _ = av_encoded(codec, container, rate, 64)
    sound = open_sound(data)
    assert (sound.suffix, sound.sample_rate) == ("", rate)
    assert 2 * rate <= len(sound.samples) <= 2 * rate + 4096
    rests = np.abs(sound.samples[int(1.6 * rate) :]).max()
    assert np.abs(sound.samples[: int(1.4 * rate)]).max() > 0.3 and rests < 0.01
    with pytest.raises(DataError):
        open_sound(data[: len(data) // 3])


@pytest.mark.parametrize("riff", [0, 36, 0x7FFFF024, 0xFFFFFFFF])
@pytest.mark.parametrize("chunk", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_wav_from_a_pipe_is_read_whole_whatever_stands_for_its_size(riff, chunk):
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    data = encode_wav(samples, 16_000)
    piped = data[:4] + struct.pack("<I", riff) + data[8:40] + struct.pack("<I", chunk) + data[44:]
    found = decode_speech(piped)
    assert len(found) == 1000 and np.abs(found - samples).max() < 1.1 / 32768


def test_wav_cut_short_in_its_data_alone_is_refused():
    data = encode_wav(np.zeros(1000, dtype=np.float32), 16_000)
    with pytest.raises(DataError, match="cut short"):
        decode_speech(data[:4] + bytes(4) + data[8:-500])


def test_channels_of_opposite_phase_do_not_become_silence():
    tone = 0.5 * np.sin(np.arange(16_000) / 5)
    noise = 0.5 * np.random.default_rng(0).standard_normal(16_000).clip(-1.9, 1.9)

    def mono(*channels) -> np.ndarray:
        buffer = io.BytesIO()
        soundfile.write(buffer, np.stack(channels, axis=1), 16_000, format="WAV", subtype="FLOAT")
        return decode_speech(buffer.getvalue())

    assert np.allclose(mono(tone, -tone), tone, atol=1e-6)
    assert np.allclose(mono(-0.9 * tone, tone), tone, atol=1e-6)
    assert np.allclose(mono(tone, noise), (tone + noise) / 2, atol=1e-6)
    assert np.allclose(mono(tone, 0 * tone), tone / 2, atol=1e-6)
    assert not mono(0 * tone, 0 * tone).any()


def test_a_picture_and_its_bytes_have_the_same_pixels():
    glass = np.zeros((8, 8, 4), dtype=np.uint8)
    glass[2:6, 2:6] = (255, 0, 0, 255)
    sixteen = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.new("P", (8, 4), 1)
    palette.putpalette([0, 0, 0, 9, 99, 199])
    for picture, format, options in [
        (Image.fromarray(glass), "PNG", {}),
        (Image.fromarray(sixteen), "PNG", {}),
        (Image.fromarray(glass[:4, :, :3]), "JPEG", {"exif": exif}),
        (palette, "PNG", {"transparency": 1}),
        (Image.new("CMYK", (8, 4), (0, 255, 255, 0)), "JPEG", {}),
    ]:
        buffer = io.BytesIO()
        picture.save(buffer, format, **options)
        again = to_rgb(Image.open(io.BytesIO(buffer.getvalue())))
        assert again.mode == "RGB" and np.array_equal(np.asarray(again), np.asarray(decode_image(buffer.getvalue())))
    assert to_rgb(Image.fromarray(glass)).getpixel((0, 0)) == (255, 255, 255)
    assert np.asarray(to_rgb(Image.fromarray(sixteen)))[-1, -1].tolist() == [255, 255, 255]
