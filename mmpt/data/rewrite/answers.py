"""Answers that were given before, so that nothing is asked twice: one SQLite file, for any number of processes of a machine."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from mmpt.data.rewrite.prompt import Answer
from mmpt.errors import ConfigError

_WAIT = 120.0
"""Seconds that a process waits for another to have written."""


class Answers:
    """The answers kept in the file `path`, by keys that hold all that an answer depends on. To be used as a `with` block.

    Raises `ConfigError` where the file cannot be opened, or is none of ours."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            self._file.execute("create table if not exists answers (key text primary key, answer text not null)")
        except (OSError, sqlite3.Error) as problem:
            raise ConfigError(f"{self.path}: answers cannot be kept in it ({problem})") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def known(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Those of `keys` that were answered."""
        found = {}
        for key in keys:
            row = self._file.execute("select answer from answers where key = ?", (key,)).fetchone()
            if row:
                found[key] = Answer(*json.loads(row[0]))
        return found

    def keep(self, answers: Mapping[str, Answer]) -> None:
        """All of them, or, where it is killed, none; what was answered before stays as it was."""
        rows = [(key, json.dumps([answer.text, answer.finished])) for key, answer in answers.items()]
        self._file.execute("begin immediate")
        self._file.executemany("insert or ignore into answers values (?, ?)", rows)
        self._file.execute("commit")
