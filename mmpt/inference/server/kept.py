"""The latest spoken answers, so that a client may name one instead of sending it back: OpenAI's `audio: {id}`."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from mmpt.document import Speech
from mmpt.inference.events import Event, PartDone

MOST = 1000
"""Answers that are kept; an older one is forgotten."""


class KeptAnswers:
    """Ids of spoken answers, by the id of their sound."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, np.ndarray] = OrderedDict()

    def keep(self, name: str, events: Sequence[Event]) -> None:
        """Keep the ids of an answer in which something is spoken, as the sound `name`."""
        if any(isinstance(event, PartDone) and isinstance(event.content, Speech) for event in events):
            self._ids[name] = np.array([token for event in events for token in event.ids], dtype=np.int32)
            while len(self._ids) > MOST:
                self._ids.popitem(last=False)

    def ids(self, name: str) -> list[int] | None:
        """Those of the answer with the sound `name`; None where it is not kept."""
        found = self._ids.get(name)
        return None if found is None else found.tolist()
