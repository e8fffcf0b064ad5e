"""Sources of transcribed speech, each on a tiny example of its layout: what is whole is kept, the rest listed with its reason."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmpt.data.lost import Lost
from mmpt.data.sources import common_voice, lhotse, librispeech, ljspeech, nemo
from mmpt.document import Document, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_speech, encode_flac, encode_wav


def tone(seconds: float, number: int, rate: int = 8000) -> np.ndarray:
    return (0.4 * np.sin(np.arange(int(seconds * rate)) * 0.1 * (number + 1))).astype(np.float32)


def read(config) -> tuple[list[Document], list[Lost]]:
    found = list(config.documents())
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Lost)]


def test_librispeech(tmp_path):
    chapter = tmp_path / "dev" / "84" / "121"
    chapter.mkdir(parents=True)
    for number in range(4):
        (chapter / f"84-121-000{number}.flac").write_bytes(encode_flac(tone(0.3, number), 8000))
    (chapter / "84-121-0002.flac").write_bytes(b"")
    lines = ["84-121-0000 GO DO YOU HEAR", "84-121-0001 BUT", "84-121-0002 X", "84-121-0009 NOT THERE"]
    (chapter / "84-121.trans.txt").write_text("\n".join(lines) + "\n")
    documents, lost = read(librispeech.LibriSpeech(folder=str(tmp_path / "dev")))
    assert [document.id for document in documents] == ["dev/84-121-0000", "dev/84-121-0001"]
    speech, text = documents[0].parts
    assert isinstance(speech, Speech) and text == Text("go do you hear") and speech.text == "go do you hear"
    assert speech.data == (chapter / "84-121-0000.flac").read_bytes() and speech.duration == pytest.approx(0.3)
    assert documents[0].meta == {"language": "en", "voice": "84", "license": "CC-BY-4.0"}
    assert [(one.item[-16:], one.reason[:7]) for one in lost] == [
        ("84-121-0002.flac", "recordi"), ("84-121-0009.flac", "no such"), ("84-121-0003.flac", "no line"),
    ]  # fmt: skip


def test_ljspeech(tmp_path):
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs" / "LJ001-0001.wav").write_bytes(encode_wav(tone(0.2, 0), 8000))
    (tmp_path / "wavs" / "LJ001-0003.wav").write_bytes(encode_wav(tone(0.2, 0), 8000)[:1000])
    (tmp_path / "metadata.csv").write_text('LJ001-0001|in "1", said|in "one", said\nLJ001-0002|a|b\nbroken\nLJ001-0003|c|d\n')
    documents, lost = read(ljspeech.LJSpeech(folder=str(tmp_path)))
    assert [document.parts[1].text for document in documents] == ['in "one", said']
    assert [one.reason[:8] for one in lost] == ["no such ", "1 fields", lost[2].reason[:8]] and "0003" in lost[2].item
    original, _ = read(ljspeech.LJSpeech(folder=str(tmp_path), normalized=False))
    assert original[0].parts[1].text == 'in "1", said'


def test_common_voice(tmp_path):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.mp3", tone(1.0, 1, 16000), 16000, format="MP3")
    rows = ["client_id\tpath\tsentence\tdown_votes\tlocale", 'abc\ta.mp3\tA "quoted" line\t0\tcy', "abc\tb.mp3\tx\t0\tcy",
            "abc\ta.mp3\tbad\t5\tcy", "abc\t\t\t0\tcy", "short\trow"]  # fmt: skip
    (tmp_path / "validated.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    documents, lost = read(common_voice.CommonVoice(folder=str(tmp_path), max_down_votes=2))
    (document,) = documents
    assert document.parts[1].text == 'A "quoted" line' and document.meta["language"] == "cy"
    assert len(document.meta["voice"]) == 12 and document.meta["voice"] != "abc" and document.parts[0].suffix == "mp3"
    assert sorted(one.rule for one in lost) == ["", "", "", "down_votes"]


def test_nemo(tmp_path):
    (tmp_path / "a.wav").write_bytes(encode_wav(tone(1.0, 1), 8000))
    lines = [
        {"audio_filepath": "a.wav", "text": "whole", "duration": 1.0, "speaker": 7},
        {"audio_filepath": str(tmp_path / "a.wav"), "text": "piece", "duration": 0.25, "offset": 0.5},
        {"audio_filepath": "a.wav", "text": "wrong", "duration": 2.0},
        {"audio_filepath": "a.wav", "text": "beyond", "duration": 1.0, "offset": 0.5},
        {"audio_filepath": "../a.wav", "text": "out", "duration": 1.0},
        {"audio_filepath": "/etc/passwd", "text": "out", "duration": 1.0},
        {"audio_filepath": "a.wav", "duration": 1.0},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = nemo.Nemo(manifest=str(tmp_path / "m.jsonl"))
    documents, lost = read(config)
    assert [document.parts[1].text for document in documents] == ["whole", "piece"] and documents[0].meta == {"voice": "7"}
    piece = decode_speech(documents[1].parts[0].data, 8000)
    assert np.allclose(piece, tone(1.0, 1)[4000:6000], atol=1e-4)
    reasons = ["2.00 s in the manifest", "has no piece", "no name of a file", "no name of a file", "no transcript"]
    assert all(reason in one.reason for reason, one in zip(reasons, lost, strict=True))
    other, wrong = read(config.model_copy(update={"sample_rate": 16_000}))
    assert not other and "8000 Hz, expected 16000 Hz" in wrong[0].reason


def test_lhotse(tmp_path):
    (tmp_path / "rec.flac").write_bytes(encode_flac(tone(2.0, 1), 8000))
    cut = {
        "id": "cut-1", "type": "MonoCut", "start": 0.5, "duration": 1.0, "channel": 0,
        "recording": {"id": "rec", "sources": [{"type": "file", "channels": [0], "source": "rec.flac"}], "sampling_rate": 8000},
        "supervisions": [{
            "id": "s", "start": 0.25, "duration": 0.5, "text": "two words", "speaker": "ann", "language": "en",
            "alignment": {"word": [["two", 0.75, 0.2], ["words", 1.0, 0.25, None]]},  # from the start of the recording
        }],
    }  # fmt: skip
    mixed = {**cut, "type": "MixedCut"}
    bare = {**cut, "supervisions": []}
    lines = "\n".join(map(json.dumps, [cut, mixed, bare]))
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    documents, lost = read(lhotse.Lhotse(cuts=str(tmp_path / "cuts.jsonl.gz"), audio=str(tmp_path)))
    (document,) = documents
    speech = document.parts[0]
    assert np.allclose(decode_speech(speech.data, 8000), tone(2.0, 1)[6000:10000], atol=1e-4)
    assert speech.words == (("two", 0.0, 0.2), ("words", 0.25, 0.5)) and document.meta == {"language": "en", "voice": "ann"}
    assert ["MixedCut" in lost[0].reason, "no supervisions" in lost[1].reason] == [True, True]


def test_an_empty_folder_is_a_mistake_of_the_specification(tmp_path: Path):
    for config in [
        librispeech.LibriSpeech(folder=str(tmp_path)),
        ljspeech.LJSpeech(folder=str(tmp_path)),
        common_voice.CommonVoice(folder=str(tmp_path)),
        nemo.Nemo(manifest=str(tmp_path / "m.jsonl")),
        lhotse.Lhotse(cuts=str(tmp_path / "c.jsonl"), audio=str(tmp_path)),
    ]:
        with pytest.raises(ConfigError):
            config.units()


def supervision(channel: int = 0) -> dict:
    """As lhotse 1.33 writes it for 0.75 s to 1.25 s of a recording."""
    return {
        "id": "x", "recording_id": "rec", "start": 0.75, "duration": 0.5, "channel": channel, "text": "two words",
        "language": "English", "speaker": "ann", "alignment": {"word": [["two", 0.75, 0.2, 0.9], ["words", 1.0, 0.25, None]]},
    }  # fmt: skip


def recording(channels: int = 1, **more) -> dict:
    source = {"type": "file", "channels": list(range(channels)), "source": "rec.flac"}
    return {"id": "rec", "sources": [source], "sampling_rate": 8000, "num_samples": 16000, "duration": 2.0,
            "channel_ids": source["channels"], **more}  # fmt: skip


def lhotse_cut(**more) -> dict:
    cut = {"id": "c", "start": 0.0, "duration": 2.0, "channel": 0, "supervisions": [supervision()], "recording": recording()}
    return {**cut, "type": "MonoCut", **more}


def test_lhotse_cuts_at_any_place_have_the_same_words(tmp_path):
    """A cut of a cut: lhotse moves the supervision, not its alignment (`SupervisionSegment.with_offset`)."""
    (tmp_path / "rec.flac").write_bytes(encode_flac(tone(2.0, 1), 8000))
    moved = lhotse_cut(id="t", start=0.5, duration=1.0, supervisions=[{**supervision(), "start": 0.25}])
    trimmed = lhotse_cut(id="s", start=0.75, duration=0.5, supervisions=[{**supervision(), "start": 0.0}])
    outside = lhotse_cut(id="o", supervisions=[{**supervision(), "alignment": {"word": [["two", 0.1, 0.2]]}}])
    (tmp_path / "cuts.jsonl").write_text("\n".join(map(json.dumps, [lhotse_cut(), moved, trimmed, outside])))
    documents, lost = read(lhotse.Lhotse(cuts=str(tmp_path / "cuts.jsonl"), audio=str(tmp_path)))
    assert len(documents) == 4 and len({document.parts[0].data for document in documents}) == 1
    assert [document.parts[0].words for document in documents] == [(("two", 0.0, 0.2), ("words", 0.25, 0.5))] * 3 + [()]
    assert len(lost) == 1 and not lost[0].whole and "outside" in lost[0].reason


def test_lhotse_cuts_that_are_no_plain_stretch_of_a_file_are_listed(tmp_path):
    (tmp_path / "rec.flac").write_bytes(encode_flac(tone(2.0, 1), 8000))
    faster = recording(transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}])
    endless = lhotse_cut(supervisions=[{**supervision(), "duration": float("inf")}])
    odd = [
        lhotse_cut(supervisions=["x"]),
        lhotse_cut(recording=["x"]),
        lhotse_cut(supervisions=[{**supervision(), "alignment": [1]}]),
    ]
    cuts = [lhotse_cut(recording=faster), lhotse_cut(recording=recording(2)), endless, *odd]
    (tmp_path / "cuts.jsonl").write_text("\n".join(map(json.dumps, cuts)))
    documents, lost = read(lhotse.Lhotse(cuts=str(tmp_path / "cuts.jsonl"), audio=str(tmp_path)))
    assert not documents and ["transform" in lost[0].reason, "channels" in lost[1].reason, len(lost)] == [True, True, 6]


def test_lhotse_supervisions_with_their_recordings(tmp_path):
    (tmp_path / "rec.flac").write_bytes(encode_flac(tone(2.0, 1), 8000))
    (tmp_path / "recordings.jsonl").write_text(json.dumps(recording()))
    rows = [supervision(), {**supervision(), "id": "y", "recording_id": "none"}]
    (tmp_path / "supervisions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = {name: str(tmp_path / f"{name}.jsonl") for name in ("recordings", "supervisions")}
    (document,), lost = read(lhotse.Lhotse(audio=str(tmp_path), **names))
    assert np.allclose(decode_speech(document.parts[0].data, 8000), tone(2.0, 1)[6000:10000], atol=1e-4)
    assert document.parts[0].words == (("two", 0.0, 0.2), ("words", 0.25, 0.5)) and len(lost) == 1
    with pytest.raises(ValueError, match="either cuts"):
        lhotse.Lhotse(audio="x", cuts="y", **names)


def test_nemo_numbers_that_are_none(tmp_path):
    (tmp_path / "a.wav").write_bytes(encode_wav(tone(1.0, 1), 8000))
    values = [
        {"duration": float("nan")},
        {"duration": float("inf"), "offset": 0},
        {"duration": True},
        {"duration": 0.5, "offset": -1},
    ]
    lines = [{"audio_filepath": "a.wav", "text": "t", **value} for value in values]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    documents, lost = read(nemo.Nemo(manifest=str(tmp_path / "m.jsonl")))
    assert not documents and len(lost) == 4


def test_one_line_that_is_no_utf8_costs_that_line_alone(tmp_path):
    chapter, wavs, clips = (tmp_path / name for name in ("libri/1/2", "lj/wavs", "cv/clips"))
    for folder in (chapter, wavs, clips):
        folder.mkdir(parents=True)
    for number in range(2):
        (chapter / f"1-2-{number}.flac").write_bytes(encode_flac(tone(0.2, 0), 8000))
    (chapter / "1-2.trans.txt").write_bytes(b"1-2-0 CAF\xe9\n\n1-2-1 GOOD\r\n")
    (wavs / "a.wav").write_bytes(encode_wav(tone(0.2, 0), 8000))
    (tmp_path / "lj" / "metadata.csv").write_bytes("b|caf\xe9|q\n".encode("latin-1") + "a|x\u2028y|g\u2028d\r\n".encode())
    soundfile.write(clips / "a.mp3", tone(1.0, 1, 16000), 16000, format="MP3")
    (tmp_path / "cv" / "validated.tsv").write_bytes(b"client_id\tpath\tsentence\nx\ta.mp3\tcaf\xe9\ny\ta.mp3\tgood\n")
    for config, text in [
        (librispeech.LibriSpeech(folder=str(tmp_path / "libri")), "good"),
        (ljspeech.LJSpeech(folder=str(tmp_path / "lj")), "g\u2028d"),
        (common_voice.CommonVoice(folder=str(tmp_path / "cv")), "good"),
    ]:
        documents, lost = read(config)
        assert [document.parts[1].text for document in documents] == [text], config.kind
        assert any("UTF-8" in one.reason and "line" in one.item for one in lost)


def test_common_voice_without_its_columns_is_a_mistake_of_the_specification(tmp_path):
    (tmp_path / "validated.tsv").write_text("client\tpath\ttext\nx\ta.mp3\thi\n")
    with pytest.raises(ConfigError, match="no column sentence"):
        common_voice.CommonVoice(folder=str(tmp_path)).units()


def test_audio_of_a_chapter_without_transcript_is_listed(tmp_path):
    for chapter in ("1/2", "1/3"):
        (tmp_path / chapter).mkdir(parents=True)
        (tmp_path / chapter / f"{chapter.replace('/', '-')}-0.flac").write_bytes(encode_flac(tone(0.2, 0), 8000))
    (tmp_path / "1/2/1-2.trans.txt").write_text("1-2-0 YES\n")
    documents, lost = read(librispeech.LibriSpeech(folder=str(tmp_path)))
    assert len(documents) == 1 and [Path(one.item).name for one in lost] == ["1-3-0.flac"]
