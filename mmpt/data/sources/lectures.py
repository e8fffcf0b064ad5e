"""Lectures: frames of a video in the order of time with what is said, from subtitles or as a recogniser hears it.

    sources: [{kind: lectures, folder: my/lectures}]

The order of Zhang et al. 2025, "2.5 Years in Class: A Multimodal Textbook for Vision-Language Pretraining": each frame stands
before the words that are spoken while it is seen.
"""

import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import pydantic
from PIL import Image as Pillow

from mmpt.data.extra import need
from mmpt.data.formats import subtitles, video
from mmpt.data.formats.ocr import Ocr
from mmpt.data.formats.subtitles import Cue, read_subtitles
from mmpt.data.hearing.recogniser import ListenerConfig, recognise
from mmpt.data.hearing.stretches import spoken_stretches
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import MAX_BYTES, image_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit
from mmpt.document import IMAGE_SUFFIXES, SPEECH_SUFFIXES, Document, Part, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, decode_speech, encode_flac
from mmpt.modality import SAMPLE_RATE

RULE = "near_duplicate_frame"
_HASH_SIDE = 16
_JPEG_QUALITY = 90
_MISSING = 0.5
"""Seconds by which a cue may reach beyond the end of the sound: the last one often stays in sight a little."""
_LANGUAGE = re.compile(r"(?P<stem>.+)\.(?P<language>[a-z]{2,3}(-[A-Za-z0-9]+)*)")


@dataclass(frozen=True)
class Lecture:
    """The files of a lecture, by their names in the folder. Without `subtitles` it is heard, or, where nobody listens, cannot be
    read; `name` says what there is."""

    name: str
    subtitles: str | None = None
    language: str = ""
    frames: tuple[str, ...] = ()
    video: str | None = None
    sound: str | None = None


class Lectures(NamedSource):
    """Frames of a video in the order of time with what is said, as Zhang et al. 2025, "2.5 Years in Class: A Multimodal Textbook
    for Vision-Language Pretraining" (arXiv:2501.00958): each frame stands before the words that are spoken while it is seen.

    Read is every NAME.srt or NAME.vtt (also NAME.en.vtt) below `folder`, with the frames in the folder NAME/, or without one the
    video NAME.mp4, .mkv, .webm or .mov; with a `recogniser` also what has no subtitles. Who wants the words mended lets a model
    do so: datasets/rewrite.py.
    """

    carries: ClassVar[tuple[str, ...]] = ("2.5 Years in Class (multimodal textbook)",)

    folder: str
    """Folder or URL of the lectures."""
    every: float | None = pydantic.Field(default=None, gt=0)
    """Seconds between the frames taken of a video; None: the codec's keyframes."""
    frame_name: str = r"(.*@|frame_)(?P<time>\d+(\.\d+)?)(_\d+(\.\d+)?#(?P<number>\d+))?"
    """Regular expression of the names of frames without their suffix: `time` in seconds, `number` where several have one time; by
    default frame_12.5.jpg and the textbook's VIDEO@10.0_55.0#2.jpg."""
    distance: int = pydantic.Field(default=12, ge=0, le=_HASH_SIDE**2)
    """Bits of 256 of the difference hash: a frame goes that differs in no more from the last one kept. A pointer that moves stays
    below 12 mostly, one more line on a slide does not."""
    speech: bool = False
    """Whether each cue becomes an utterance with its transcript, cut from NAME.wav, .flac, .ogg or .mp3, else from the video."""
    recogniser: ListenerConfig | None = None
    """What listens where there are no subtitles, such as `{model: openai/whisper-large-v3}`; null: such lectures are listed."""
    stretch: float = pydantic.Field(default=15.0, gt=0, le=30)
    """Seconds of speech that it hears at once, cut at pauses where it can be: each is a cue of its own."""
    ocr: Ocr | None = None
    """What reads the text in frames, which then stands behind each: `{}` is Tesseract for English; null: nothing does."""
    language: str = ""
    """Code of the language of the documents, for their meta; a name such as NAME.en.vtt comes first."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.field_validator("frame_name")
    @classmethod
    def _has_a_time(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as problem:
            raise ValueError(f"no regular expression ({problem})") from None
        if "time" not in groups:
            raise ValueError("expected a group (?P<time>…)")
        return pattern

    def units(self) -> list[Unit[Lecture]]:
        """One for each file of subtitles, and one for each video or folder of frames that has none.

        Raises `ConfigError` where there is no such folder, or nothing of a lecture in it.
        """
        files = files_of(self.folder)
        videos = _by_stem(files, video.SUFFIXES)
        sounds = _by_stem(files, SPEECH_SUFFIXES)
        frames = _frame_folders(self, files)
        need("imagehash")
        if self.ocr:
            self.ocr.check()
        if videos:
            need("av")
        found, left = [], {*videos, *frames}
        for name in files:
            stem, _, suffix = name.rpartition(".")
            if not stem or suffix.lower() not in subtitles.SUFFIXES:
                continue
            base, language = _base(stem, {*videos, *frames})
            left.discard(base)
            lecture = Lecture(
                name=stem,
                subtitles=name,
                language=language or self.language,
                frames=tuple(frames.get(base, ())),
                video=videos.get(base),
                sound=sounds.get(base),
            )
            size = sum(files[frame] for frame in lecture.frames) or files.get(lecture.video or "", 0)
            found.append(Unit(lecture, size + files.get(lecture.sound or "", 0) + files[name]))
        for stem in sorted(left):
            lecture = Lecture(videos.get(stem, f"{stem}/"))
            size = 0
            if self.recogniser and (stem in videos or stem in sounds):
                need("silero_vad")
                shown, video_, sound = tuple(frames.get(stem, ())), videos.get(stem), sounds.get(stem)
                lecture = Lecture(stem, language=self.language, frames=shown, video=video_, sound=sound)
                size = sum(files[name] for name in {*shown, video_, sound} if name)
            found.append(Unit(lecture, size))
        if not found:
            raise ConfigError(f"{self.folder}: no subtitles (*.srt, *.vtt), video or frames in it")
        return found

    def read(self, unit: Unit[Lecture]) -> Documents:
        """The document of one lecture. Frames that repeat the one before, and cues that cannot be read, are listed."""
        store, source, lecture = Store(self.folder), self.source_name(self.folder), unit.what
        document_id = f"{source}/{lecture.name}"
        where = store.path(lecture.subtitles or lecture.name)
        lost: list[Lost] = []
        try:
            listens = lecture.subtitles is None and bool(lecture.video or lecture.sound)
            sound = _sound(store, lecture) if listens or self.speech and lecture.subtitles else None
            if lecture.subtitles:
                suffix = lecture.subtitles.rpartition(".")[2].lower()
                cues, unread = read_subtitles(store.read(lecture.subtitles), suffix, where)
                lost += [Lost(one.item, one.reason, document_id, whole=False) for one in unread]
            elif sound is not None and self.recogniser:
                cues = _heard(self.recogniser, sound, self.stretch)
            else:
                raise DataError("no subtitles beside it")
            frames = deque(_distinct(self, store, lecture, document_id, lost))
        except DataError as problem:
            yield Lost(where, str(problem).removeprefix(f"{where}: "), document_id)
            return
        parts: list[Part | str] = []
        for cue in cues:
            while frames and frames[0][0] < cue.end:  # seen before the words are over, so it stands before them
                parts += frames.popleft()[1]
            try:
                parts.append(cue.text if sound is None or not self.speech else _spoken(sound, cue))
            except DataError as problem:
                item = f"{where}, cue at {cue.start:.2f} s"
                lost.append(Lost(item, f"{problem}: kept as text", document_id, whole=False, part="speech"))
                parts.append(cue.text)
        parts += [part for _, shown in frames for part in shown]
        meta = {"language": lecture.language, "license": self.license}
        yield from lost
        yield Document(document_id, source, tuple(_joined(parts)), {key: value for key, value in meta.items() if value})


def _frame_folders(config: Lectures, files: dict[str, int]) -> dict[str, list[str]]:
    """The pictures of each folder in which at least one is named like a frame."""
    pictures: dict[str, list[str]] = {}
    for name in files:
        folder, _, file = name.rpartition("/")
        if folder and file.rpartition(".")[2].lower() in IMAGE_SUFFIXES:
            pictures.setdefault(folder, []).append(name)
    return {folder: names for folder, names in pictures.items() if any(_time(config, name) for name in names)}


def _by_stem(files: dict[str, int], suffixes: tuple[str, ...]) -> dict[str, str]:
    return {name.rpartition(".")[0]: name for name in reversed(files) if name.rpartition(".")[2].lower() in suffixes}


def _base(stem: str, known: set[str]) -> tuple[str, str]:
    match = _LANGUAGE.fullmatch(stem)
    return (match["stem"], match["language"]) if stem not in known and match and match["stem"] in known else (stem, "")


def _distinct(
    config: Lectures, store: Store, lecture: Lecture, document_id: str, lost: list[Lost]
) -> Iterator[tuple[float, list[Part]]]:
    """(time, picture and the text in it) of the frames that are kept; the others are added to `lost`. A text that is the one
    before is not said again."""
    imagehash = need("imagehash")
    last, read = None, ""
    for found in _frames(config, store, lecture):
        if isinstance(found, Lost):
            lost.append(Lost(found.item, found.reason, document_id, whole=False, part="image"))
            continue
        where, time, picture, data = found
        fingerprint = imagehash.dhash(picture, hash_size=_HASH_SIDE)
        if last is not None and fingerprint - last <= config.distance:
            lost.append(Lost(where, f"{fingerprint - last} bits from the frame kept before", document_id, False, RULE))
            continue
        last = fingerprint
        shown: list[Part] = [image_part(data or _jpeg(picture))]
        if config.ocr:
            try:
                text = config.ocr.read(picture)
            except DataError as problem:
                lost.append(Lost(where, str(problem), document_id, whole=False))
                text = ""
            if text and text != read:
                shown.append(Text(config.ocr.form.replace("{text}", text)))
            read = text or read
        yield time, shown


def _frames(config: Lectures, store: Store, lecture: Lecture) -> Iterator[tuple[str, float, Pillow.Image, bytes] | Lost]:
    """(place, time, picture, its bytes where it came from a file) in order of time."""
    if lecture.frames:
        times = {name: _time(config, name) for name in lecture.frames}
        yield from (Lost(store.path(name), "no time in its name") for name, time in times.items() if time is None)
        for (time, _), name in sorted((time, name) for name, time in times.items() if time is not None):
            try:
                data = store.read(name)
                yield store.path(name), time, decode_image(data), data
            except DataError as problem:
                yield Lost(store.path(name), str(problem))
    elif lecture.video:
        with _on_disk(store, lecture.video) as path:
            for time, picture in video.read_frames(path, config.every):
                yield f"{store.path(lecture.video)} at {time:.2f} s", time, picture, b""
    else:
        raise DataError("no video and no folder of frames beside it")


def _time(config: Lectures, name: str) -> tuple[float, int] | None:
    """(seconds, number) in the name of a frame, None where it is no name of one."""
    match = re.fullmatch(config.frame_name, name.rpartition("/")[2].rpartition(".")[0])
    try:
        return (float(match["time"]), int(match.groupdict().get("number") or 0)) if match else None
    except ValueError:
        return None


def _jpeg(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _sound(store: Store, lecture: Lecture) -> np.ndarray:
    """Mono int16 [samples] at `SAMPLE_RATE`."""
    if lecture.sound:
        if store.size(lecture.sound) > MAX_BYTES:
            raise DataError(f"{store.path(lecture.sound)}: more than {MAX_BYTES} bytes")
        samples = decode_speech(store.read(lecture.sound), SAMPLE_RATE)
        return (samples * 32768).clip(-32768, 32767).astype(np.int16)
    if not lecture.video:
        raise DataError("no sound and no video beside it")
    with _on_disk(store, lecture.video) as path:
        return video.read_sound(path, SAMPLE_RATE)


@contextmanager
def _on_disk(store: Store, name: str) -> Iterator[Path]:
    """A file of the store as one of this machine."""
    path = Path(store.path(name))
    if store.is_local and path.is_file():
        yield path
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"video.{name.rpartition('.')[2]}"
        store.download(name, path)
        yield path


def _spoken(sound: np.ndarray, cue: Cue) -> Speech:
    first, last = round(cue.start * SAMPLE_RATE), round(cue.end * SAMPLE_RATE)
    piece = sound[first:last]
    if not len(piece) or last - len(sound) > _MISSING * SAMPLE_RATE:
        raise DataError(f"sound of {len(sound) / SAMPLE_RATE:.2f} s ends before {cue.end:.2f} s")
    data = encode_flac(piece.astype(np.float32) / 32768, SAMPLE_RATE)
    return Speech(data, "flac", SAMPLE_RATE, len(piece) / SAMPLE_RATE, cue.text)


def _heard(recogniser: ListenerConfig, sound: np.ndarray, longest: float) -> list[Cue]:
    """What is said in mono int16 [samples], stretch by stretch. Raises `DataError` where nothing is."""
    samples = sound.astype(np.float32) / 32768
    stretches = spoken_stretches(samples, longest)
    texts = recognise(recogniser, [samples[start:end] for start, end in stretches]) if stretches else []
    found = [
        Cue(start / SAMPLE_RATE, end / SAMPLE_RATE, (text,)) for (start, end), text in zip(stretches, texts, strict=True) if text
    ]
    if not found:
        raise DataError("no subtitles beside it, and nothing is heard in it")
    return found


def _joined(parts: list[Part | str]) -> Iterator[Part]:
    """The parts, what is said one after the other as one text."""
    for said, group in groupby(parts, key=lambda part: isinstance(part, str)):
        if said:
            yield Text(" ".join(part for part in group if isinstance(part, str)))
        else:
            yield from (part for part in group if not isinstance(part, str))
