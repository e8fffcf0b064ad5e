"""Praat's TextGrid files, in the long and the short form of text: the intervals of each tier."""

import codecs
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from mmpt.errors import DataError

_VALUE = re.compile(r'"(?:[^"]|"")*"|!.*|<[a-z]+>|(?<![\w\[.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w\]])')
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Interval(NamedTuple):
    """What is said from `start` to `end` seconds."""

    start: float
    end: float
    text: str


def read_textgrid(data: bytes) -> dict[str, list[Interval]]:
    """Name → intervals of every interval tier; of two tiers of one name the first, points are left out. Raises `DataError`.

    Both forms hold the same values in the same order, the long one with the names of the fields between them, which are left out
    here: a name is no text in quotes and no number by itself.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise DataError(f"no {encoding} ({problem})") from None
    values = (value for value in _VALUE.findall(text) if not value.startswith("!"))  # what remarks begin with
    try:
        if _string(values) != "ooTextFile" or _string(values) != "TextGrid":
            raise DataError("no TextGrid of Praat")
        _times(values)
        tiers: dict[str, list[Interval]] = {}
        if next(values) != "<exists>":
            return tiers
        for _ in range(_count(values)):
            kind, name = _string(values), _string(values)
            _times(values)
            if kind not in ("IntervalTier", "TextTier"):
                raise DataError(f"a tier of class {kind!r}, expected IntervalTier or TextTier")
            if kind == "TextTier":
                for _ in range(_count(values)):
                    _number(values)
                    _string(values)
                continue
            found = [Interval(_number(values), _number(values), _string(values)) for _ in range(_count(values))]
            tiers.setdefault(name, found)
    except StopIteration:
        raise DataError("its end is missing") from None
    for name, intervals in tiers.items():
        times = [time for one in intervals for time in one[:2]]
        if times != sorted(times) or not all(map(math.isfinite, times)):
            raise DataError(f"the intervals of tier {name!r} are not in the order of time")
    return tiers


def _string(values: Iterator[str]) -> str:
    value = next(values)
    if value[0] != '"':
        raise DataError(f"found {value[:40]}, expected text in quotes")
    return value[1:-1].replace('""', '"')


def _number(values: Iterator[str]) -> float:
    value = next(values)
    if value[0] in '"<':
        raise DataError(f"found {value[:40]}, expected a number")
    return float(value)


def _times(values: Iterator[str]) -> tuple[float, float]:
    return _number(values), _number(values)


def _count(values: Iterator[str]) -> int:
    number = _number(values)
    if number < 0 or number != int(number):
        raise DataError(f"found {number}, expected how many there are")
    return int(number)
