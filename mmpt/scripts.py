"""What every script and command does around its work: its help, and a person's mistake as a short message and exit code 2."""

import argparse
import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from mmpt.errors import MmptError

OVERRIDES = "values that replace those of the file, each in YAML: fit.steps=200, 'data=[{path: tokens/train}]'"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


def script_parser(description: str | None, **options) -> argparse.ArgumentParser:
    """The parser of a script, described by its docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter, **options)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the KEY=VALUE arguments that go to `mmpt.config.load_config`."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES)


def run_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `mmpt.model.checkpoints.find_checkpoint` takes."""
    where = "a checkpoint folder, a run folder (its newest checkpoint), or hf://OWNER/NAME on the Hugging Face hub"
    parser.add_argument("run", metavar="RUN", type=Path, help=where)


def quantization_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `mmpt.model.quantization.quantize` takes."""
    what = "int8: the matrices of the decoder's layers in a byte a value, by torchao (pip install mmpt[int8])"
    parser.add_argument("--quantization", choices=("int8",), help=what)


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
