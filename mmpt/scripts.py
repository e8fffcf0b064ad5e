"""What every script and command does around its work: a person's mistake becomes a short message and exit code 2."""

import functools
import sys
import warnings
from collections.abc import Callable

from mmpt.errors import MmptError


def main_guard(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a `main()`: an `MmptError` is printed without traceback and exits with 2; `--debug` in argv keeps the traceback."""

    @functools.wraps(main)
    def guarded() -> None:
        debug = "--debug" in sys.argv
        if debug:
            sys.argv.remove("--debug")
        else:
            warnings.simplefilter("ignore", FutureWarning)  # what libraries tell each other's developers
        try:
            main()
        except MmptError as problem:
            if debug:
                raise
            print(f"error: {problem}", file=sys.stderr)
            sys.exit(2)

    return guarded
