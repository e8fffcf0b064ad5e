"""Pictures and sound of a video file, by PyAV (FFmpeg's libraries; extra `data`).

Both raise `DataError` where the file is no video, is damaged or cut short, has no such track, or lasts longer than `MAX_SECONDS`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpt.data.extra import need
from mmpt.errors import DataError
from mmpt.media import MAX_PIXELS, MAX_SECONDS

SUFFIXES = ("mp4", "mkv", "webm", "mov")
_OPTIONS = {  # whatever a file's name ends with, a playlist in it is not followed to other files or addresses
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
}
_CUT_SHORT = 1.0
"""Seconds before the end which a file states for itself that its last packet may lie."""
_GAP = 0.05
"""Seconds of a hole in the sound from which on it is filled with silence, so that what follows stays in its place."""


def read_frames(path: Path, every: float | None = None) -> Iterator[tuple[float, Image.Image]]:
    """(seconds from the start, upright RGB picture): the codec's own keyframes, or a frame each `every` seconds.

    Where `DataError` is raised, what came before is sound, but not all.
    """
    with _opened(path) as container:
        stream = _track(container, "video")
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise DataError(f"frames of {context.width} x {context.height} pixels, at most {MAX_PIXELS} are decoded")
        context.thread_count = 1  # tasks run beside each other already
        if every is None:
            context.skip_frame = "NONKEY"
        due = 0.0
        for time, frame in _decoded(container, stream):
            if every is None or time >= due:
                yield max(0.0, time), frame.to_image().rotate(frame.rotation, expand=True)
                due = 0.0 if every is None else (max(0.0, time) // every + 1) * every


def read_sound(path: Path, sample_rate: int) -> np.ndarray:
    """The sound track as mono int16 [samples] at `sample_rate` Hz, the first sample at the start of the video."""
    av = need("av")
    with _opened(path) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
        pieces: list[np.ndarray] = []
        early = place = 0  # samples before the start of the video, and where the next one belongs
        for number, (time, frame) in enumerate(_decoded(container, _track(container, "audio"))):
            at = round(time * sample_rate)
            if number == 0 and at < 0:
                early, place = -at, at
            if at - place > _GAP * sample_rate:
                pieces.append(np.zeros(at - place, dtype=np.int16))
                place = at
            for resampled in resampler.resample(frame):
                pieces.append(resampled.to_ndarray()[0])
                place += len(pieces[-1])
        if not pieces:
            raise DataError("no sound in its track")
        pieces += [resampled.to_ndarray()[0] for resampled in resampler.resample(None)]  # what it still held back
    return np.concatenate(pieces)[early:]


@contextmanager
def _opened(path: Path) -> Iterator:
    av = need("av")
    try:
        with av.open(str(path), container_options=_OPTIONS, metadata_errors="replace") as container:
            if container.duration is not None and container.duration > MAX_SECONDS * av.time_base:
                raise DataError(f"{container.duration / av.time_base:.0f} s long, at most {MAX_SECONDS:.0f} s are decoded")
            yield container
    except (av.FFmpegError, ValueError) as problem:
        raise DataError(f"no video that can be decoded ({getattr(problem, 'strerror', None) or problem})") from None


def _track(container, kind: str):
    stream = container.streams.best(kind)
    if stream is None:
        raise DataError(f"no {kind} track in it")
    return stream


def _decoded(container, stream) -> Iterator[tuple[float, Any]]:
    """(seconds from the start of the file, frame) of one stream to the end of the file."""
    unit = need("av").time_base
    begin = max(0, container.start_time or 0) / unit
    reached = 0.0
    for packet in container.demux():
        if packet.pts is not None:
            reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begin)
        if packet.stream.index == stream.index:
            for frame in packet.decode():
                if frame.time is None:
                    raise DataError("a frame without its time")
                if frame.time - begin > MAX_SECONDS:
                    raise DataError(f"a frame at {frame.time - begin:.0f} s, at most {MAX_SECONDS:.0f} s are decoded")
                yield frame.time - begin, frame
    if container.duration is not None and reached < container.duration / unit - _CUT_SHORT:
        raise DataError(f"cut short: {reached:.1f} of {container.duration / unit:.1f} s")
