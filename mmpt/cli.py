"""The `mmpt` command. What a command needs is imported once its arguments are known to be good: torch takes seconds."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from mmpt.commands.chat import add_chat
from mmpt.commands.export import add_export
from mmpt.commands.generate import add_generate
from mmpt.commands.import_model import add_import
from mmpt.commands.push import add_push
from mmpt.commands.serve import add_serve
from mmpt.commands.soup import add_soup
from mmpt.errors import ConfigError
from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, main_guard, run_argument, script_parser


@main_guard
def main() -> None:
    """Entry point of the `mmpt` command."""
    parser = script_parser("Models that read and write text, pictures and speech.", prog="mmpt")
    parser.add_argument("--version", action="version", version=f"mmpt {version('mmpt')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        add_generate,
        add_chat,
        add_serve,
        add_export,
        add_import,
        add_push,
        add_soup,
        _add_inspect,
        _add_methods,
        _add_tokenizers,
        _add_doctor,
    ):
        add(commands)
    arguments = parser.parse_args()
    arguments.action(arguments)


def _add_inspect(commands) -> None:
    parser = commands.add_parser("inspect", formatter_class=HelpFormatter, help="show what a step of a run trains on")
    run_argument(parser)
    parser.add_argument("--batch", metavar="STEP", type=int, required=True, help="number of the step, from 1")
    parser.set_defaults(action=_inspect)


def _inspect(arguments: argparse.Namespace) -> None:
    # A checkpoint has the recipe of its run; the quickstart's folder has none of its own.
    folder = arguments.run if (arguments.run / "recipe.yaml").is_file() else find_checkpoint(arguments.run)
    from mmpt.training.inspect import describe_step

    print("\n".join(describe_step(folder, arguments.batch)))


def _add_methods(commands) -> None:
    parser = commands.add_parser(
        "methods",
        formatter_class=HelpFormatter,
        help="every method: what it does, its paper, its line of YAML",
        description="Every method of every family, read from the files: what it does, its paper or repository, its line of YAML.",
    )
    parser.add_argument("--family", help="of this family alone, by its name or its YAML key")
    parser.add_argument("--papers", action="store_true", help="published systems instead, and which methods carry them")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    parser.set_defaults(action=_methods)


def _methods(arguments: argparse.Namespace) -> None:
    from mmpt.catalogue import markdown, methods_table, papers_table

    rows = papers_table() if arguments.papers else methods_table(arguments.family)
    print(markdown(rows) if arguments.markdown else _aligned(rows))


def _add_tokenizers(commands) -> None:
    parser = commands.add_parser(
        "tokenizers",
        formatter_class=HelpFormatter,
        help="every tokenizer: how many codes, how often, how many bits, its paper and weights",
        description="The published tokenizers that are read, as they were released, and those of PATHs, each with its figures.",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="specifications or folders: tokenizers/*.yaml runs/mimi"
    )
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    parser.set_defaults(action=_tokenizers)


def _tokenizers(arguments: argparse.Namespace) -> None:
    from mmpt.catalogue import markdown
    from mmpt.training.tokenizer_list import tokenizers_table

    rows = tokenizers_table(arguments.paths)
    print(markdown(rows) if arguments.markdown else _aligned(rows))


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Columns side by side on a terminal; one line for each row where the output goes into a file."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Cell  # not as markup: YAML has brackets

    if not sys.stdout.isatty():
        return "\n".join("\t".join(row) for row in rows)
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows[1:]:
        table.add_row(*map(Cell, row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def _add_doctor(commands) -> None:
    parser = commands.add_parser("doctor", formatter_class=HelpFormatter, help="what is installed, what fits, and what runs here")
    parser.set_defaults(action=_doctor)


def _doctor(arguments: argparse.Namespace) -> None:
    from mmpt.doctor import examine

    lines, wrong = examine()
    print("\n".join(lines))
    if wrong:
        raise ConfigError(f"{wrong} {'problem' if wrong == 1 else 'problems'} found, marked MISSING or WRONG above")


if __name__ == "__main__":
    main()
