"""The latest answers with sound or pictures, so that a client may name one instead of sending it back: OpenAI's `audio: {id}`."""

import time
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

MOST = 1000
"""Answers that are kept; an older one is forgotten."""
SECONDS = 3600
"""How long one is kept at most."""


class KeptAnswers:
    """Ids of answers, by their name; the id of their message and of their sound is that name behind a word."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, tuple[float, np.ndarray]] = OrderedDict()

    def keep(self, name: str, ids: Sequence[int]) -> None:
        """Keep the `ids` of an answer as `name`."""
        self._ids[name] = (time.monotonic() + SECONDS, np.array(ids, dtype=np.int32))
        while len(self._ids) > MOST:
            self._ids.popitem(last=False)

    def ids(self, name: str) -> list[int] | None:
        """Those of the answer whose message or sound has the id `name`; None where it is not kept."""
        until, found = self._ids.get(name.removeprefix("audio-").removeprefix("msg-"), (0.0, None))
        return None if found is None or time.monotonic() > until else found.tolist()
