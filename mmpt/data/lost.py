"""What did not get through a step of the data's way: listed one by one, never dropped silently."""

import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mmpt.data.store import Store
from mmpt.document import Document
from mmpt.errors import DataError

T = TypeVar("T")
LOST_FILE = "lost.jsonl"
"""Name of the list in a shard set."""
BAD_DATA = "bad data"
"""What stands for the empty rule where losses are counted by rule."""


@dataclass(frozen=True)
class Lost:
    """One thing that is not in the result: `item` says where it lay (file and line, member, shard and key), `reason` why.

    `document` is the id of the document it was or belonged to, "" where it had none yet. `whole`: the whole document is gone;
    else only a part of it, and the rest went on. `rule` names the rule that dropped it on purpose; "" means bad data. `part`
    says what of a document is gone that should be there: "image" or "speech", "" where it is neither, or only not as good.
    """

    item: str
    reason: str
    document: str = ""
    whole: bool = True
    rule: str = ""
    part: str = ""

    @property
    def bad(self) -> bool:
        """A whole document lost to bad data: what a limit on the share of bad documents counts."""
        return self.whole and not self.rule

    @property
    def bad_part(self) -> bool:
        """A picture or a recording lost to bad data, of a document that is kept: what a limit on their share counts."""
        return bool(self.part) and not self.whole and not self.rule


Documents = Iterator[Document | Lost]
"""What every source and every step yields: documents in order, and between them what was lost."""


def to_lines(lost: Iterable[Lost]) -> bytes:
    """JSON lines, one for each. What UTF-8 cannot hold, such as bytes of a file's name, is written out: \\udce9."""
    return b"".join(json.dumps(_plain(one), ensure_ascii=False, sort_keys=True).encode() + b"\n" for one in lost)


def _plain(one: Lost) -> dict:
    texts = {name: value for name, value in vars(one).items() if isinstance(value, str)}
    return vars(one) | {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}


def from_lines(data: bytes) -> list[Lost]:
    """The inverse of `to_lines`. Raises `DataError`."""
    return list(each(data.splitlines()))


def each(lines: Iterable[bytes]) -> Iterator[Lost]:
    """What each of the lines says. Raises `DataError`."""
    try:
        for line in lines:
            yield Lost(**json.loads(line))
    except (TypeError, ValueError) as problem:
        raise DataError(f"no list of what was lost ({problem})") from None


class LostSum:
    """What a list says, however long it is: `counts` and the first few `examples` by rule (`BAD_DATA`: by none)."""

    def __init__(self, lost: Iterable[Lost], most: int) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Lost]] = {}
        for one in lost:
            rule = one.rule or BAD_DATA
            self.counts[rule] += 1
            examples = self.examples.setdefault(rule, [])
            if len(examples) < most:
                examples.append(one)


def read_lost(store: Store) -> Iterator[Lost]:
    """What is listed beside a set, read piece by piece; nothing where there is no list. Raises `DataError`."""
    if not store.exists(LOST_FILE):
        return
    rest = b""
    for data in store.chunks(LOST_FILE):
        *lines, rest = (rest + data).split(b"\n")
        yield from each(lines)
    yield from each([rest] if rest else [])


def kept(found: Iterable[T | Lost]) -> Generator[Lost, None, list[T]]:
    """What of `found` is no loss; the losses are yielded: `parts = yield from kept(…)`."""
    items: list[T] = []
    for one in found:
        if isinstance(one, Lost):
            yield one
        else:
            items.append(one)
    return items
