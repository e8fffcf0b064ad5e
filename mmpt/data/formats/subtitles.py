"""Subtitles in SRT and WebVTT: the cues in order of time, as they are spoken.

WebVTT: www.w3.org/TR/webvtt1. The parser is our own since common libraries read WebVTT as SRT: a caption with word times in it
becomes a cue, names of cues and notes become text.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmpt.data.lost import Lost
from mmpt.errors import DataError

SUFFIXES = ("srt", "vtt")
MAX_BYTES = 64 << 20
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_NEARLY_TIMES = re.compile(r"\s*\d+:\d{2}:\d{2}[.,]\d+\s*[-–—=>]")
"""A broken arrow: without this, the cue would be glued to the one before."""
_SRT_STYLE = re.compile(r"</?(?:i|b|u|s|font)\b[^>]*>|\{\\[^}]*\}", re.IGNORECASE)
_VTT_STYLE = re.compile(r"<[^>]*>")
_TOUCHING = 0.1
"""Seconds between two cues, or of one, that nobody sees."""
_ROLLING = 1 / 3
"""A file rolls when a larger share of its cues begins with the last line of the one before."""


@dataclass(frozen=True)
class Cue:
    """What is said from `start` to `end`, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)


def read_subtitles(data: bytes, suffix: str, where: str) -> tuple[list[Cue], list[Lost]]:
    """The cues of a file (`where`, for messages) without styling, and what in it could not be read.

    A cue that reaches into the next ends where that begins. Captions that roll, each line coming again above the following one
    as YouTube's automatic captions do, say each line once.

    Raises `DataError` where the file is too large, no UTF-8, or has no cue.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"subtitles of {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        lines = re.split("\r\n|\r|\n", data.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise DataError(f"no UTF-8 ({problem})") from None
    cues, lost = [], []
    places = [number for number, line in enumerate(lines) if "-->" in line or _NEARLY_TIMES.match(line)]
    for place, following in zip(places, [*places, None][1:], strict=True):
        match = _TIMES.fullmatch(lines[place])
        start, end = (_seconds(match.groups()[:4]), _seconds(match.groups()[4:])) if match else (0.0, 0.0)
        if start < end:
            body = lines[place + 1 : following]
            cues.append(Cue(start, end, _said(body, suffix, last=following is None)))
        else:
            lost.append(Lost(f"{where}, line {place + 1}", f"no times of a cue: {lines[place][:80]!r}", whole=False))
    cues = sorted((cue for cue in cues if cue.lines), key=lambda cue: cue.start)
    if not cues:
        raise DataError("no cue in it")
    cues = _unrolled(cues)
    # Cues may overlap; in time, words belong to the cue that began last.
    later = [*(cue.start for cue in cues[1:]), cues[-1].end]
    return [
        replace(one, end=min(one.end, then)) if then > one.start else one for one, then in zip(cues, later, strict=True)
    ], lost


def _seconds(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + int((fraction or "").ljust(3, "0")) / 1000


def _said(body: list[str], suffix: str, last: bool) -> tuple[str, ...]:
    if suffix == "vtt":  # a blank line ends the cue; after it come notes, and the name of the next
        blank = body.index("") if "" in body else len(body)  # one of spaces ends nothing: automatic captions begin with it
        body = [html.unescape(_VTT_STYLE.sub("", line)) for line in body[:blank]]
    else:
        if not last and body and body[-1].strip().isdigit():  # the number of the next cue stands right above its times
            body = body[:-1]
        body = [_SRT_STYLE.sub("", line) for line in body]
    return tuple(" ".join(line.split()) for line in body if line.strip())


def _unrolled(cues: list[Cue]) -> list[Cue]:
    # How many lines each cue takes over from the one before it.
    repeats = [0, *(_repeated(one, two) for one, two in zip(cues, cues[1:], strict=False))]
    if sum(count > 0 for count in repeats) <= _ROLLING * len(cues):
        return cues
    found = []
    for cue, count in zip(cues, repeats, strict=True):
        new = cue.lines[count:]
        if new or cue.end - cue.start > _TOUCHING:  # a whole cue said again is kept: only one that just holds the lines goes
            found.append(replace(cue, lines=new or cue.lines))
    return found


def _repeated(one: Cue, two: Cue) -> int:
    """How many lines `two` begins with that `one`, still in sight, ends with."""
    if two.start - one.end > _TOUCHING:
        return 0
    most = min(len(one.lines), len(two.lines))
    return next((count for count in range(most, 0, -1) if one.lines[-count:] == two.lines[:count]), 0)
