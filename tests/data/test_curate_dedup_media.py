"""Copies by what is heard and seen: recordings through other codecs, and documents keyed on text, on media or on both."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image as Picture

from mmpt.data.curate.copies.sounds import KEYS, sound_distance, sound_keys, sound_print
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import encode_png, resampled


def write(folder: Path, documents: list[Document], size: int) -> str:
    with ShardWriter(folder, built={}, max_documents=size) as writer:
        for document in documents:
            writer.write(document)
    return str(folder)


def result(folder: Path) -> tuple[list[Document], list]:
    return list(DocumentShards(folder)), from_lines((folder / "lost.jsonl").read_bytes())


SENTENCE = " ".join(f"word{n}" for n in range(30))


def voice(seed: int, seconds: float = 3.0, rate: int = 16_000) -> np.ndarray:
    """Vowels: harmonics of a gliding pitch under moving formants, with pauses, as in speech."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    knots = np.linspace(0, seconds, int(seconds * 6))
    pitch = np.interp(time, knots, draw.uniform(90, 220, len(knots)))
    formants = [np.interp(time, knots, draw.uniform(low, high, len(knots))) for low, high in ((300, 900), (900, 2200))]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = np.zeros_like(time)
    for harmonic in range(1, 20):
        weight = sum(np.exp(-(((harmonic * pitch - formant) / 150) ** 2)) for formant in formants)
        wave += (weight + 0.02) * np.sin(harmonic * phase)
    loud = np.interp(time, knots, draw.uniform(0.1, 1, len(knots)))
    return (0.2 * wave * loud / np.abs(wave).max()).astype(np.float32)


def speech(samples: np.ndarray, rate: int = 16_000, codec: str = "flac") -> Speech:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format={"mp3": "MP3", "ogg": "OGG", "flac": "FLAC"}[codec])
    return Speech(buffer.getvalue(), codec, rate, len(samples) / rate)


def changed(samples: np.ndarray) -> dict[str, Speech]:
    return {
        "quieter": speech(samples * 0.3),
        "mp3": speech(samples, codec="mp3"),
        "ogg": speech(samples, codec="ogg"),
        "telephone": speech(resampled(samples, 16_000, 8_000), 8_000),
        "noisy": speech(samples + 0.002 * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)),
        "later": speech(np.concatenate([np.zeros(1_234, np.float32), samples])),
    }


def test_a_recording_is_known_through_codecs_rates_and_loudness_and_others_are_not():
    prints = {seed: sound_print(speech(voice(seed))) for seed in range(8)}
    assert len(prints[0]) == (3 * 5512 - 2048) // 64  # sub-fingerprints are differences of neighbouring frames
    found = 0
    for seed in range(4):
        for name, part in changed(voice(seed)).items():
            other = sound_print(part)
            assert sound_distance(prints[seed], other) <= 0.35 and sound_distance(other, prints[seed]) <= 0.35, name
            found += bool((sound_keys(prints[seed]) == sound_keys(other)).any())
    assert found == 24, "each shares a key"
    for one in range(8):
        for other in range(one):
            assert sound_distance(prints[one], prints[other]) > 0.4
    assert sound_distance(prints[0], prints[0]) == 0
    half = sound_print(speech(voice(0)[:24_000]))
    assert sound_distance(prints[0], half) == 1, "half of it is not it"
    with pytest.raises(DataError, match="too short"):
        sound_print(speech(voice(0, 0.5)))
    silent = sound_keys(sound_print(speech(np.zeros(32_000, np.float32))))
    assert (silent == 0).all() and len(silent) == KEYS, "silence is like nothing"


def test_bits_of_a_fingerprint_are_those_of_the_definition():
    """F(n, m) = 1 where E(n, m) - E(n, m + 1) - (E(n - 1, m) - E(n - 1, m + 1)) > 0 (Haitsma and Kalker 2002, equation 1)."""
    samples = voice(3, rate=5512)
    found = sound_print(speech(samples, 5512))
    frames = np.stack([soundfile.read(io.BytesIO(speech(samples, 5512).data))[0][at * 64 : at * 64 + 2048] for at in (10, 11)])
    power = np.abs(np.fft.rfft(frames * np.hanning(2048))) ** 2
    edges = np.round(np.geomspace(300, 2000, 34) * 2048 / 5512).astype(int)
    energy = np.array([[row[low:high].sum() for low, high in zip(edges, edges[1:], strict=False)] for row in power])
    expected = [
        energy[1, m] - energy[1, m + 1] - (energy[0, m] - energy[0, m + 1]) > 0 for m in range(32)
    ]  # fmt: skip
    assert [bool(int(found[10]) >> m & 1) for m in range(32)] == expected


def test_recordings_heard_as_the_same_are_the_same_where_that_is_asked_for(tmp_path):
    documents = [Document("first", "t", (speech(voice(1)), Text(SENTENCE)))]
    documents += [Document(name, "t", (part, Text(SENTENCE))) for name, part in changed(voice(1)).items()]
    documents += [Document(f"other {n}", "t", (speech(voice(n)), Text(SENTENCE))) for n in (2, 3)]
    turns = [
        Document(f"{one} {other}", "t", (speech(voice(one)), speech(voice(other)), Text(SENTENCE)))
        for one, other in ((2, 3), (3, 2))
    ]
    documents += turns
    folder = write(tmp_path / "in", documents, 4)
    curate(Dedup(), [folder], tmp_path / "bytes")
    assert result(tmp_path / "bytes") == (documents, [])
    curate(Dedup(sound_distance=0.35), [folder], tmp_path / "heard")
    kept, lost = result(tmp_path / "heard")
    assert [one.id for one in kept] == ["first", "other 2", "other 3", "2 3", "3 2"], "in another order they are others"
    assert {(one.rule, one.reason) for one in lost} == {("near_text", "like first (Jaccard 1.00)")}


def picture(seed: int, side: int = 96) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image(encode_png(Picture.fromarray(coarse).resize((side, side), Picture.Resampling.BICUBIC)), "png", side, side)


def test_what_documents_are_keyed_on_can_be_set(tmp_path):
    other = " ".join(f"other{n}" for n in range(30))
    documents = [
        Document("a", "t", (picture(1), picture(2), Text(SENTENCE))),
        Document("same text, another picture", "t", (picture(1), picture(3), Text(SENTENCE))),
        Document("same text, pictures the other way round", "t", (picture(2), picture(1), Text(SENTENCE))),
        Document("same text, no picture", "t", (Text(SENTENCE),)),
        Document("same pictures smaller, another text", "t", (picture(1, 64), picture(2, 64), Text(other))),
        Document("same of both", "t", (picture(1, 80), picture(2), Text(SENTENCE.upper()))),
        Document("nothing like it", "t", (Text("nothing " + other.replace("other", "more")),)),
    ]
    folder = write(tmp_path / "in", documents, 3)
    gone = {
        "both": {"same of both": "near_text"},
        "text": {one.id: "near_text" for one in documents[1:4]} | {"same of both": "near_text"},
        "media": {"same pictures smaller, another text": "near_media", "same of both": "near_media"},
    }
    for keyed_on, expected in gone.items():
        curate(Dedup(ngram=5, keyed_on=keyed_on, max_copies=None), [folder], tmp_path / keyed_on)
        assert {one.document: one.rule for one in result(tmp_path / keyed_on)[1]} == expected, keyed_on
    curate(Dedup(ngram=5, image_distance=None), [folder], tmp_path / "bytes")
    assert result(tmp_path / "bytes")[1] == [], "smaller pictures have other bytes"
