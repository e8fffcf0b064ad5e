"""Lectures: frames stand before the words that are spoken while they are seen; captions say each word once."""

import shutil
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from mmpt.data.formats import video
from mmpt.data.formats.ocr import Ocr
from mmpt.data.formats.subtitles import read_subtitles
from mmpt.data.lost import Lost
from mmpt.data.sources import lectures
from mmpt.data.sources.lectures import Lectures
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, decode_speech, encode_png, encode_wav

av = pytest.importorskip("av", reason="the extra `data` is not installed")
SRT = """1
00:00:00,000 --> 00:00:01,900
Look at <i>this</i>,

2
00:00:02,100 --> 00:00:02,900
a {1, 2}

3
00:00:03,000 --> 00:00:03,900
and that.
"""


def slide(number: int) -> np.ndarray:
    """A picture with a pattern of its own, the same for the same number."""
    coarse = np.random.default_rng(number).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def clip(path: Path, shown: list[int], rotation: int = 0, sound: bool = True) -> None:
    """Slide `shown[n]` in second n, four frames and one keyframe a second; the sound is a tone in each odd half second."""
    codecs = ("libvpx", "libopus") if path.suffix == ".webm" else ("libx264", "aac")
    with av.open(str(path), "w") as file:
        pictures = file.add_stream(codecs[0], rate=4)
        pictures.width, pictures.height, pictures.pix_fmt, pictures.gop_size = 96, 64, "yuv420p", 4
        if rotation:
            pictures.set_display_rotation(rotation)
        track = file.add_stream(codecs[1], rate=48_000, layout="mono") if sound else None
        for number in range(4 * len(shown)):
            frame = av.VideoFrame.from_ndarray(slide(shown[number // 4]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode(None))
        if track:
            frame = av.AudioFrame.from_ndarray((tone(len(shown), 48_000) * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            resampler = av.AudioResampler(track.format, "mono", 48_000, frame_size=track.frame_size or 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(track.encode(piece))
            file.mux(track.encode(None))


def tone(seconds: int, rate: int) -> np.ndarray:
    time = np.arange(seconds * rate) / rate
    return np.where(time % 1 < 0.5, 0, 0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def read(folder: Path | str, **options) -> tuple[list[Document], list[Lost]]:
    config = Lectures(folder=str(folder), **options)
    found = list(config.documents())
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Lost)]


def number(part: Image) -> int:
    """Which slide a picture shows."""
    pixels = np.asarray(decode_image(part.data)).astype(int)
    return min(range(8), key=lambda other: np.abs(pixels - slide(other)).mean())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "mov"])
def test_keyframes_stand_before_what_is_said_while_they_are_seen(tmp_path, suffix):
    clip(tmp_path / f"a.{suffix}", [0, 1, 1, 2])
    (tmp_path / "a.en.srt").write_text(SRT)
    (document,), lost = read(tmp_path, license="CC-BY-4.0")
    # Slide 1 comes at 1 s, within the first cue: slide 0 was there when it began. Slide 2 comes at 3 s, with the last.
    assert [number(part) if isinstance(part, Image) else part.text for part in document.parts] == [
        0, 1, "Look at this, a {1, 2}", 2, "and that.",
    ]  # fmt: skip
    assert document.id == f"{tmp_path.name}/a.en" and document.meta == {"language": "en", "license": "CC-BY-4.0"}
    assert [(one.rule, one.whole, one.item[-4:]) for one in lost] == [("near_duplicate_frame", False, "00 s")]
    assert lost[0].item.endswith(f"a.{suffix} at 2.00 s")


@pytest.mark.parametrize("sidecar", [False, True])
def test_speech_is_cut_where_the_cue_is(tmp_path, sidecar):
    clip(tmp_path / "a.mp4", [0, 1, 2, 3], sound=not sidecar)
    if sidecar:
        (tmp_path / "a.wav").write_bytes(encode_wav(tone(4, 8000), 8000))
    cues = [(0.6, 0.9, "loud"), (1.1, 1.4, "quiet"), (1.5, 2.5, "both"), (3.5, 4.2, "to the end"), (5.0, 6.0, "beyond")]
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n" + "".join(f"00:0{a:.3f} --> 00:0{b:.3f}\n{text}\n\n" for a, b, text in cues), encoding="utf-8"
    )
    (document,), lost = read(tmp_path, speech=True)
    spoken = [part for part in document.parts if isinstance(part, Speech)]
    assert [part.text for part in spoken] == ["loud", "quiet", "both", "to the end"] and document.parts[-1] == Text("beyond")
    assert len(lost) == 1 and not lost[0].whole and "kept as text" in lost[0].reason and "5.00 s" in lost[0].item
    assert [part.duration for part in spoken] == pytest.approx([0.3, 0.3, 1.0, 0.5], abs=0.05)
    loud, quiet, both, _ = (decode_speech(part.data, 16_000) for part in spoken)
    assert np.abs(loud[800:-800]).mean() == pytest.approx(0.5 * 2 / np.pi, abs=0.03) and np.abs(quiet[800:-800]).max() < 0.02
    begins = np.argmax(np.abs(both[800:][::-1]) > 0.1)  # from the end: the tone stops in the middle of this cue
    assert begins == pytest.approx(8000, abs=160)


def test_frames_in_a_folder_need_no_video(tmp_path):
    (tmp_path / "a").mkdir()
    for name, shown in [("v@0.0_2.0#1", 0), ("v@0.0_2.0#2", 1), ("v@2.0_4.0#10", 4), ("v@2.0_4.0#2", 3), ("cover", 5)]:
        (tmp_path / "a" / f"{name}.png").write_bytes(encode_png(Pillow.fromarray(slide(shown))))
    (tmp_path / "a" / "v@3.5_4.0#1.jpg").write_bytes(b"no picture")
    (tmp_path / "a.srt").write_text(SRT)
    (document,), lost = read(tmp_path)
    shown = [number(part) if isinstance(part, Image) else part.text for part in document.parts]
    assert shown == [0, 1, "Look at this,", 3, 4, "a {1, 2} and that."]
    assert [one.reason[:10] for one in lost] == ["no time in", "no picture"] and not any(one.whole for one in lost)
    for name, seconds in [("frame_000012.5", 12.5), ("-1uix@Z@10.0_55.0#2", 10.0), ("frame_7", 7.0)]:
        assert lectures._time(Lectures(folder="x"), f"a/{name}.jpg")[0] == seconds


def test_frames_each_so_many_seconds_and_distance(tmp_path):
    clip(tmp_path / "a.mkv", [0, 1, 1, 2], sound=False)
    assert [time for time, _ in video.read_frames(tmp_path / "a.mkv", 1.5)] == [0, 1.5, 3]
    assert [time for time, _ in video.read_frames(tmp_path / "a.mkv")] == [0, 1, 2, 3]
    (tmp_path / "a.srt").write_text(SRT)
    (document,), lost = read(tmp_path, distance=256)
    assert sum(isinstance(part, Image) for part in document.parts) == 1 and len(lost) == 3
    with pytest.raises(DataError, match="no audio track"):
        video.read_sound(tmp_path / "a.mkv", 16_000)


def test_a_video_filmed_upright_stays_so(tmp_path):
    clip(tmp_path / "a.mp4", [3], rotation=90)
    ((_, picture),) = video.read_frames(tmp_path / "a.mp4")
    assert picture.size == (64, 96)
    assert np.abs(np.asarray(picture).astype(int) - np.rot90(slide(3)).astype(int)).mean() < 12


def test_bad_lectures_are_listed_one_by_one(tmp_path):
    clip(tmp_path / "good.mp4", [0, 1])
    for name in ("short", "empty", "latin", "playlist", "nocue"):
        (tmp_path / f"{name}.srt").write_text(SRT)
    clip(tmp_path / "short.mkv", [0, 1, 2, 3])
    (tmp_path / "short.mkv").write_bytes((tmp_path / "short.mkv").read_bytes()[: (tmp_path / "short.mkv").stat().st_size // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "latin.srt").write_bytes(SRT.replace("this", "caf\xe9").encode("latin-1"))
    (tmp_path / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\n{tmp_path}/good.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "nocue.srt").write_text("")
    (tmp_path / "lonely.srt").write_text(SRT)
    for name in ("latin", "nocue"):
        clip(tmp_path / f"{name}.mp4", [0])
    (tmp_path / "good.srt").write_text(
        SRT + "\n4\n00:00:0x,000 --> 00:00:05,000\nlost\n\n5\n00:00:05,000 -> 00:00:06,000\nlost\n"
    )
    documents, lost = read(tmp_path)
    assert [document.id.rpartition("/")[2] for document in documents] == ["good"]
    assert documents[0].parts[-1] == Text("Look at this, a {1, 2} and that."), "words of a cue without times belong to no other"
    assert sum("no times of a cue" in one.reason for one in lost) == 2
    reasons = {Path(one.item).stem if one.whole else "part": one.reason for one in lost}
    assert reasons.keys() == {"part", "short", "empty", "latin", "playlist", "nocue", "lonely"}
    expected = {"part": "no times", "short": "cut short", "empty": "no video", "latin": "no UTF-8", "playlist": "no video",
                "nocue": "no cue", "lonely": "no video and no folder"}  # fmt: skip
    assert all(text in reasons[name] for name, text in expected.items()), reasons


def test_what_has_no_subtitles_is_listed(tmp_path):
    for name in "ac":
        clip(tmp_path / f"{name}.mp4", [0])
    (tmp_path / "c.srt").write_text(SRT)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "frame_1.png").write_bytes(encode_png(Pillow.fromarray(slide(0))))
    (tmp_path / "thumbnail.png").write_bytes(b"")
    documents, lost = read(tmp_path)
    assert len(documents) == 1 and [(Path(one.item).name, one.reason) for one in lost] == [
        ("a.mp4", "no subtitles beside it"), ("b", "no subtitles beside it"),
    ]  # fmt: skip


def test_mistakes_of_the_specification(tmp_path):
    with pytest.raises(ConfigError, match="no subtitles"):
        Lectures(folder=str(tmp_path)).units()
    for pattern in ("frame_(\\d+)", "("):
        with pytest.raises(ValueError):
            Lectures(folder="x", frame_name=pattern)


def test_lectures_from_another_store(tmp_path):
    clip(tmp_path / "a.mp4", [0, 1])
    files = fsspec.filesystem("memory")
    files.pipe_file("/talks/a.mp4", (tmp_path / "a.mp4").read_bytes())
    files.pipe_file("/talks/a.srt", SRT.encode())
    try:
        (document,), _ = read("memory://talks", speech=True)
    finally:
        files.rm("/talks", recursive=True)
    assert [type(part) for part in document.parts] == [Image, Image, Speech, Text]  # the sound ends before the second cue


def spoken_sound() -> np.ndarray:
    """Two sentences of espeak-ng, 1 s of silence before, between and behind them, at 16 kHz."""
    pytest.importorskip("silero_vad")
    pytest.importorskip("espeakng_loader")
    with Speaker() as speaker:
        said = [read_aloud(speaker, text, "en-us") for text in ("The sun is a star, and it is hot.", "Planets go around it.")]
    quiet = np.zeros(16_000, dtype=np.float32)
    pieces = [decode_speech(part.data, 16_000) for part in said]
    return np.concatenate([quiet, pieces[0], quiet, pieces[1], quiet])


def test_what_has_no_subtitles_is_heard(tmp_path, monkeypatch):
    sound = spoken_sound()
    clip(tmp_path / "a.mp4", list(range(8)), sound=False)
    (tmp_path / "a.wav").write_bytes(encode_wav(sound, 16_000))
    clip(tmp_path / "b.mp4", [0])
    heard: list[np.ndarray] = []

    def recognise(config, sounds):
        assert config.model == "a/listener"
        heard.extend(sounds)
        return [f"words of {number}" for number in range(len(sounds))]

    monkeypatch.setattr(lectures, "recognise", recognise)
    (document,), lost = read(tmp_path, recogniser={"model": "a/listener"}, language="en")
    assert document.id == f"{tmp_path.name}/a" and document.meta == {"language": "en"}
    # Heard are the two sentences, about; what is seen while one is said stands before it, and no frame is missing.
    lengths = [len(piece) / 16_000 for piece in heard]
    assert len(heard) == 2 and sum(lengths) == pytest.approx(len(sound) / 16_000 - 3, abs=1.0)
    shown = [number(part) if isinstance(part, Image) else part.text for part in document.parts]
    assert [one for one in shown if isinstance(one, int)] == list(range(8))
    assert [one for one in shown if isinstance(one, str)] == ["words of 0", "words of 1"]
    assert 2 <= shown.index("words of 0") < shown.index("words of 1") - 1
    assert [(one.whole, one.reason) for one in lost] == [(True, "no subtitles beside it, and nothing is heard in it")]
    (document,), _ = read(tmp_path, recogniser={"model": "a/listener"}, speech=True)
    spoken = [part for part in document.parts if isinstance(part, Speech)]
    assert [part.text for part in spoken] == ["words of 0", "words of 1"]
    for part, piece in zip(spoken, heard[2:], strict=False):
        assert np.abs(decode_speech(part.data, 16_000) - piece).max() < 1e-3


def test_the_text_in_a_frame_stands_behind_it_once(tmp_path, monkeypatch):
    clip(tmp_path / "a.mp4", [0, 1, 2, 3], sound=False)
    (tmp_path / "a.srt").write_text(SRT)
    read_ = iter(["Title", "Title", "", DataError("too long")])

    def text(self, picture):
        found = next(read_)
        if isinstance(found, DataError):
            raise found
        return found

    monkeypatch.setattr(Ocr, "check", lambda self: None)
    monkeypatch.setattr(Ocr, "read", text)
    (document,), lost = read(tmp_path, ocr={"form": "[{text}]"})
    shown = [number(part) if isinstance(part, Image) else part.text for part in document.parts]
    assert shown == [0, "[Title]", 1, "Look at this,", 2, "a {1, 2}", 3, "and that."]
    assert [(one.reason, one.whole, one.part) for one in lost] == [("too long", False, "")]


def test_text_is_read_in_a_picture():
    pytest.importorskip("pytesseract", reason="the extra `ocr` is not installed")
    if not shutil.which("tesseract"):
        pytest.skip("no tesseract")
    picture = Pillow.new("RGB", (640, 200), "white")
    brush = ImageDraw.Draw(picture)
    brush.text((30, 30), "The nature of astronomy", fill="black", font=ImageFont.load_default(40))
    brush.text((30, 110), "Planets and 17 stars", fill="black", font=ImageFont.load_default(40))
    ocr = Ocr()
    ocr.check()
    assert ocr.read(picture) == "The nature of astronomy\nPlanets and 17 stars"
    assert ocr.read(Pillow.fromarray(slide(3)).resize((640, 200))) == ""
    with pytest.raises(ConfigError, match="klingon"):
        Ocr(languages=("klingon",)).check()


def test_without_tesseract_it_is_said_what_to_install(tmp_path, monkeypatch):
    clip(tmp_path / "a.mp4", [0], sound=False)
    monkeypatch.setitem(sys.modules, "pytesseract", None)
    with pytest.raises(ConfigError, match=r"mmpt\[ocr\]"):
        Lectures(folder=str(tmp_path), ocr={}).units()

    class Missing(Exception):
        pass

    def languages():
        raise Missing

    monkeypatch.setitem(sys.modules, "pytesseract", SimpleNamespace(TesseractNotFoundError=Missing, get_languages=languages))
    with pytest.raises(ConfigError, match="apt install tesseract-ocr"):
        Lectures(folder=str(tmp_path), ocr={}).units()


def said(text: str, suffix: str) -> list[str]:
    return [cue.text for cue in read_subtitles(text.encode(), suffix, "x")[0]]


def test_webvtt_without_its_dress():
    text = (
        "\ufeffWEBVTT - title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:02.000 align:start\n"
        "<v.loud Ann>Fish &amp; <b>chips</b>, a &lt; b</v>\n- {sic}\n\nNOTE\nfor nobody\n\n2\n01:00:02.000 --> 01:00:03.500\n"
        "the answer is\n42\n"
    )  # fmt: skip
    cues, lost = read_subtitles(text.replace("\n", "\r\n").encode(), "vtt", "x")
    assert [cue.text for cue in cues] == ["Fish & chips, a < b - {sic}", "the answer is 42"] and not lost
    assert [(cue.start, cue.end) for cue in cues] == [(1, 2), (3602, 3603.5)]


def test_captions_that_roll_say_each_line_once():
    """The form of YouTube's automatic captions: two lines in sight, the lower one new, its words timed; 10 ms to hold them."""
    rows, lines = [], ["so here we", "have a big", "have a big", "idea"]
    for place, line in enumerate(lines):
        start, end = 2 * place, 2 * place + 1.99
        above = lines[place - 1] if place else " "
        timed = "".join(f"<00:00:{start + i / 4:06.3f}><c> {word}</c>" for i, word in enumerate(line.split()))[14:]
        rows.append(f"00:00:{start:06.3f} --> 00:00:{end:06.3f} align:start position:0%\n{above}\n{timed}\n")
        rows.append(f"00:00:{end:06.3f} --> 00:00:{end + 0.01:06.3f} align:start position:0%\n{line}\n \n")
    assert said("WEBVTT\n\n" + "\n".join(rows), "vtt") == lines


def test_a_speaker_may_repeat_themselves():
    lines = ["No.", "No.", "Why?", "No."]
    text = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{line}\n\n" for n, line in enumerate(lines))
    assert said(text, "srt") == lines
    lines[2:] = ["No.\nNever.", "Why?", "Well ...", "Who knows."]  # once in a while is no captions that roll
    text = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{line}\n\n" for n, line in enumerate(lines))
    assert said(text, "srt") == [line.replace("\n", " ") for line in lines]


def test_numbers_that_are_said_are_no_numbers_of_cues():
    cues, lost = read_subtitles(
        b"1\n00:00:01,5 --> 00:00:02,25\nfive\n6\n\n2\n00:00:03,000 --> 00:00:04,000\nseven\n8", "srt", "x"
    )
    assert [(cue.start, cue.end, cue.text) for cue in cues] == [(1.5, 2.25, "five 6"), (3, 4, "seven 8")] and not lost


def test_cues_that_overlap_end_where_the_next_begins():
    times = [(1, 5, "a"), (3, 6, "b"), (3, 4, "c")]
    text = "".join(f"00:00:0{start},000 --> 00:00:0{end},000\n{line}\n\n" for start, end, line in times)
    cues, _ = read_subtitles(text.encode(), "srt", "x")
    assert [(cue.start, cue.end, cue.text) for cue in cues] == [(1, 3, "a"), (3, 6, "b"), (3, 4, "c")]


word = st.text("abcÄ中é'.,-?! ", min_size=1, max_size=12).filter(str.strip)
spoken = st.tuples(st.integers(1, 3000), st.integers(0, 900), st.lists(word, min_size=1, max_size=3))


@settings(deadline=None)
@given(st.lists(spoken, min_size=1, max_size=8))
def test_well_formed_srt_reads_as_pysubs2_reads_it(drawn):
    pysubs2 = pytest.importorskip("pysubs2")
    at, events = 0, []
    for number, (length, pause, lines) in enumerate(drawn):
        events.append(pysubs2.SSAEvent(at, at + length, f"{number}: " + "\\N".join(line.strip() for line in lines)))
        at += length + pause
    file = pysubs2.SSAFile()
    file.events = events
    text = file.to_string("srt")
    ours, lost = read_subtitles(text.encode(), "srt", "x")
    theirs = pysubs2.SSAFile.from_string(text, "srt")
    assert not lost and len(ours) == len(theirs)
    for cue, event in zip(ours, theirs, strict=True):
        assert (round(cue.start * 1000), round(cue.end * 1000)) == (event.start, event.end)
        assert cue.text == " ".join(event.plaintext.split())
    vtt = file.to_string("vtt")
    assert [cue.text for cue in read_subtitles(vtt.encode(), "vtt", "x")[0]] == [cue.text for cue in ours]


@given(st.binary(max_size=300), st.sampled_from(["srt", "vtt"]))
def test_no_bytes_break_the_reader(data, suffix):
    for prefix in (b"", b"WEBVTT\n\n00:00.000 --> 00:01.000\n"):
        with suppress(DataError):
            read_subtitles(prefix + data, suffix, "x")


def test_two_lectures_read_alone_are_the_same_as_together(tmp_path):
    for name in "ab":
        clip(tmp_path / f"{name}.mp4", [0, 1, 2])
        (tmp_path / f"{name}.srt").write_text(SRT)
    config = Lectures(folder=str(tmp_path), speech=True)
    together = [list(config.read(unit)) for unit in config.units()]
    assert list(config.read(config.units()[1])) == together[1]
