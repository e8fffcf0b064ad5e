"""What a loop over data could not read, and when that is too much."""

from dataclasses import dataclass, field

from mmpt.data.lost import Lost
from mmpt.errors import DataError

ENOUGH = 100
"""Documents read before their share of bad ones can stop the loop."""


@dataclass
class Losses:
    """`lost`: each document that could not be read, of `asked` ones. A share above `max_lost` is an error."""

    max_lost: float
    lost: list[Lost] = field(default_factory=list)
    asked: int = 0

    def count(self, asked: int, lost: list[Lost]) -> None:
        """Add what one step gave. Raises `DataError` where it is too much, at once if nothing at all could be read."""
        self.asked += asked
        self.lost += lost
        bad = len(self.lost)
        if bad > self.max_lost * self.asked and (self.asked >= ENOUGH or bad == self.asked):
            raise DataError(
                f"{bad} of {self.asked} documents could not be read, more than max_lost {self.max_lost:g} allows; "
                f"the last: {self.lost[-1].item}: {self.lost[-1].reason}"
            )


def lost_document(problem: DataError) -> Lost:
    """A reader's error, "PLACE: REASON", as an entry of the list."""
    where, _, reason = str(problem).rpartition(": ")
    return Lost(where, reason)
