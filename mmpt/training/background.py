"""One piece of work at a time beside the training, such as writing a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread


class Background:
    """`submit` returns at once; what fails is raised by the next call of any method."""

    abandoned = False
    """Whether the training has ended with an error: work that waits for others need not wait on."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    def submit(self, work: Callable[[], object]) -> None:
        """Start `work` once the piece before it is done."""
        self.wait()
        self._thread = Thread(target=self._run, args=(work,), name="background")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what the last piece raised, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as failure:  # raised again in the thread that asked for the work
            self._failure = failure


@contextmanager
def background() -> Iterator[Background]:
    """A `Background` whose work is done at the end, also after an error inside."""
    found = Background()
    try:
        yield found
    except BaseException:
        found._failure, found.abandoned = None, True
        if found._thread is not None:
            found._thread.join()
        raise
    found.wait()
