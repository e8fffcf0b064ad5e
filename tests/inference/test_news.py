"""How often the engine's process tells of what is being written."""

from collections import defaultdict

import pytest

from mmpt.inference.reading import Prompt
from mmpt.inference.rows import Writing
from mmpt.inference.server import writers
from mmpt.inference.server.writers import TOLD, Held, News, Submit, write
from mmpt.inference.settings import Settings

STEP, TOKENS = 0.005, 400
"""Seconds of a step; ids of each sequence."""


class Stepping:
    """An engine whose steps take `STEP` by a clock of its own and write the ids 0, 1, 2, … of each sequence."""

    held = Held(0, 0)

    def __init__(self) -> None:
        self.now, self._all = 1000.0, list[Writing]()

    @property
    def busy(self) -> bool:
        return any(not one.finished for one in self._all)

    def submit(self, prompt: Prompt, settings: Settings) -> Writing:
        self._all.append(Writing(prompt, settings))
        return self._all[-1]

    def step(self) -> None:
        self.now += STEP
        for one in self._all:
            one.ids.append(len(one.ids))
            one.finished = len(one.ids) == TOKENS


@pytest.mark.parametrize("sequences", [1, 16])
def test_every_id_is_told_once_and_of_a_sequence_every_25_ms_at_most(monkeypatch, sequences):
    engine = Stepping()
    monkeypatch.setattr(writers.time, "monotonic", lambda: engine.now)
    waiting = [[Submit(number, Prompt([1]), Settings()) for number in range(sequences)]]
    told = defaultdict(list)

    def commands(wait: bool):
        return waiting.pop() if waiting else None if wait else []

    def tell(found) -> None:
        for one in found:
            if isinstance(one, News):
                told[one.number].append((engine.now, one))

    write(engine, commands, tell)  # pyright: ignore[reportArgumentType]
    assert len(told) == sequences
    for news in told.values():
        assert [token for _, one in news for token in one.ids] == list(range(TOKENS))
        assert [one.finished for _, one in news] == [False] * (len(news) - 1) + [True]
        assert len(news[0][1].ids) == 1  # the first token waits for nothing
        times = [when for when, _ in news]
        gaps = [after - before for before, after in zip(times[:-1], times[1:-1], strict=False)]
        assert all(TOLD - 1e-9 <= gap <= TOLD + 2 * STEP for gap in gaps)
