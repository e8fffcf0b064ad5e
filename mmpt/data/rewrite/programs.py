"""Programs of a few fixed operations on the lines of a text, read by a small parser of their own: nothing is ever evaluated.

    remove_lines(3, 5)
    normalize("www.", "")
    keep_chunk()

The operations of ProX (Zhou et al. 2024, arXiv:2409.17115, table 1).
"""

import re
from dataclasses import dataclass

from mmpt.errors import DataError

MOST_CALLS = 64
"""Calls of the longest program."""
_FENCE = re.compile(r"\s*```[a-z]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_CALL = re.compile(r"\s*([a-z_]+)\s*\(")
_NAMED = re.compile(r"\s*(?:[a-z_]+\s*=)?\s*")
_VALUE = re.compile(r"""(\d{1,9})|"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'""")
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "keep_doc": (),
    "drop_doc": (),
    "keep_chunk": (),
    "remove_lines": (int, int),
    "normalize": (str, str),
}


@dataclass(frozen=True)
class Call:
    """One operation with its arguments."""

    name: str
    arguments: tuple[int | str, ...]


def parse(program: str) -> list[Call]:
    """The calls of a program, one a line, also within a fence of code. Raises `DataError` where it is anything else."""
    fenced = _FENCE.fullmatch(program)
    lines = [line for line in (fenced[1] if fenced else program).splitlines() if line.strip()]
    if not 0 < len(lines) <= MOST_CALLS:
        raise DataError(f"a program of {len(lines)} lines, expected 1 to {MOST_CALLS}")
    return [_call(line) for line in lines]


def _call(line: str) -> Call:
    begun = _CALL.match(line)
    if not begun or begun[1] not in _SIGNATURES:
        raise DataError(f"no operation: {line.strip()[:60]!r}")
    arguments: list[int | str] = []
    at = begun.end()
    while not (ended := re.compile(r"\s*\)\s*;?\s*").match(line, at)):
        if arguments:
            comma = re.compile(r"\s*,").match(line, at)
            if not comma:
                raise DataError(f"no operation: {line.strip()[:60]!r}")
            at = comma.end()
        named = _NAMED.match(line, at)
        value = _VALUE.match(line, named.end() if named else at)
        if not value:
            raise DataError(f"no number and no string: {line.strip()[:60]!r}")
        arguments.append(int(value[1]) if value[1] is not None else _unescaped(value[2] if value[2] is not None else value[3]))
        at = value.end()
    if ended.end() != len(line) or tuple(map(type, arguments)) != _SIGNATURES[begun[1]]:
        raise DataError(f"no operation: {line.strip()[:60]!r}")
    return Call(begun[1], tuple(arguments))


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text)


def run(calls: list[Call], text: str) -> str | None:
    """`text` after the program; None: the whole document goes. Lines count from 0, those that go are removed before strings are
    replaced. Raises `DataError` where the program says two things at once, or speaks of what is not in the text."""
    names = {call.name for call in calls}
    if names & {"keep_doc", "drop_doc", "keep_chunk"}:
        if len(names) > 1:
            raise DataError(f"{' and '.join(sorted(names))} at once")
        return None if names == {"drop_doc"} else text
    lines = text.splitlines(keepends=True)
    gone: set[int] = set()
    for call in calls:
        if call.name == "remove_lines":
            first, last = (int(one) for one in call.arguments)
            if not first <= last < len(lines):
                raise DataError(f"lines {first} to {last} of {len(lines)}")
            gone |= set(range(first, last + 1))
    found = "".join(line for number, line in enumerate(lines) if number not in gone)
    for call in calls:
        if call.name == "normalize":
            before, after = (str(one) for one in call.arguments)
            if not before or before not in text:
                raise DataError(f"{before[:60]!r} is not in the text")
            found = found.replace(before, after)
    return found
