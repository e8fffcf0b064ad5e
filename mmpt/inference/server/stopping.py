"""Stop words: an answer's text ends before the first of them."""

from collections.abc import Iterator, Sequence

from mmpt.document import Text
from mmpt.inference.events import Event, PartDone, TextDelta


class StopWords:
    """Passes events on until a text holds one of `words`; `found` then, and the text ends before it. What may be the beginning
    of a word is held back until it is known."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self.found = tuple(words), False
        self._part, self._text, self._shown, self._ids = 0, "", 0, ()

    def __call__(self, events: Sequence[Event]) -> list[Event]:
        return list(self._passed(events)) if self._words else list(events)

    def _passed(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, TextDelta):
                self._part = event.part
                self._text += event.text
                self._ids += event.ids
                places = [place for word in self._words if (place := self._text.find(word)) >= 0]
                if places:
                    self.found = True
                    yield from self._until(event.part, min(places))
                    yield PartDone(event.part, Text(self._text[: min(places)].rstrip()), ())
                    return
                yield from self._until(event.part, len(self._text) - self._held())
            elif isinstance(event, PartDone) and isinstance(event.content, Text):
                yield from self._until(event.part, len(self._text))
                yield event
                self._text, self._shown, self._ids = "", 0, ()
            else:
                if self._ids:  # every id is told in the order in which it was written
                    yield TextDelta(self._part, "", self._ids)
                    self._ids = ()
                yield event

    def _until(self, part: int, end: int) -> Iterator[TextDelta]:
        if end > self._shown:
            yield TextDelta(part, self._text[self._shown : end], self._ids)
            self._shown, self._ids = end, ()

    def _held(self) -> int:
        """How many of the last characters may begin a stop word."""
        longest = max(map(len, self._words)) - 1
        tails = (self._text[-length:] for length in range(min(longest, len(self._text)), 0, -1))
        return next((len(tail) for tail in tails if any(word.startswith(tail) for word in self._words)), 0)
