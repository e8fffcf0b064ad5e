"""SIGTERM and SIGINT become a request to stop after the step: the run saves, and exits with 128 + the signal's number."""

import signal


class StopRequest:
    """`number` is the signal received so far, 0 before. The second SIGINT interrupts at once, as usual."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        if self.number == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
