"""The `mmpt` command. What a command needs is imported once its arguments are known to be good: torch takes seconds."""

import argparse
import os
import sys
from contextlib import ExitStack
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mmpt.cli_import import add_import
from mmpt.cli_push import add_push
from mmpt.config import parse_config
from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.modality import MEDIA, MODALITIES, Modality
from mmpt.model.checkpoints import find_checkpoint, find_model, require_different
from mmpt.model.merges import chosen_merge
from mmpt.scripts import HelpFormatter, main_guard, run_argument, script_parser
from mmpt.storage import MANIFEST, write_bytes
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer

if TYPE_CHECKING:
    from mmpt.inference.settings import Settings


@main_guard
def main() -> None:
    """Entry point of the `mmpt` command."""
    parser = script_parser("Models that read and write text, pictures and speech.", prog="mmpt")
    parser.add_argument("--version", action="version", version=f"mmpt {version('mmpt')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_generate,
        _add_serve,
        _add_export,
        add_import,
        add_push,
        _add_soup,
        _add_inspect,
        _add_methods,
        _add_tokenizers,
        _add_doctor,
    ):
        add(commands)
    arguments = parser.parse_args()
    arguments.action(arguments)


def _add_generate(commands) -> None:
    parser = commands.add_parser(
        "generate",
        formatter_class=HelpFormatter,
        help="continue a prompt of text, pictures and speech",
        description="Continue a prompt. --text, --image and --speech may be given in any order and number; the order counts. "
        "--messages is a conversation instead, marked by the model's chat template.",
    )
    run_argument(parser)
    for name, metavar in (("text", "TEXT"), ("image", "FILE"), ("speech", "FILE")):
        parser.add_argument(f"--{name}", metavar=metavar, dest="prompt", action=_Append, help=f"a {name} part of the prompt")
    parser.add_argument("--messages", metavar="FILE", type=Path, help="a conversation in JSON, in place of a prompt")
    parser.add_argument("--to", nargs="+", choices=MODALITIES, help="what may be written (default: anything)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the .wav and .png files")
    parser.add_argument("--page", type=Path, help="also prompt and answer as one document, media in place: a .html or .md file")
    parser.add_argument("--max-tokens", type=int, default=256, help="most tokens to generate")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token each time")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the likeliest tokens that reach this probability")
    parser.add_argument("--top-k", type=int, default=0, help="draw from this many of the likeliest tokens; 0: from all")
    for name in MEDIA:
        parser.add_argument(f"--{name}-temperature", type=float, help=f"another temperature for codes of {name}")
    parser.add_argument(
        "--sampler", metavar="YAML", help="another sampler: greedy, or '{kind: min_p, min_p: 0.05, temperature: 1.2}'"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="classifier-free guidance of pictures; 1: none")
    parser.add_argument("--alternate", nargs=2, type=int, metavar=("TEXT", "SPEECH"), help="this many tokens of each in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    _renderer_argument(parser)
    parser.set_defaults(action=_generate)


def _generate(arguments: argparse.Namespace) -> None:
    if not (arguments.prompt or arguments.messages):
        raise ConfigError("the prompt is empty: give --text, --image or --speech, or --messages")
    if arguments.prompt and arguments.messages:
        raise ConfigError("--messages: it goes without --text, --image and --speech, which would be of no turn")
    from mmpt.inference.document_page import check_page, document_page, keep

    settings = _settings(arguments)
    check_page(arguments.page)
    if arguments.messages:
        from mmpt.inference.conversation import read_messages

        prompt = read_messages(arguments.messages)
    else:
        prompt = [_read_part(modality, value) for modality, value in arguments.prompt]
    checkpoint, renderer = find_checkpoint(arguments.run), chosen_renderer(arguments.renderer)
    from mmpt.inference.events import PartDone, TextDelta
    from mmpt.inference.load import load

    arguments.out.mkdir(parents=True, exist_ok=True)
    answer: list[tuple[Part, Path | None]] = []
    model = load(checkpoint, renderer=renderer)
    if arguments.messages and model.tokenizer.chat is None:
        print(f"{checkpoint}: no chat template, so the messages are read as one text without roles", file=sys.stderr)
    for event in model.stream(prompt, settings=settings):
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, PartDone):
            part = event.content
            file = None if isinstance(part, Text) else keep(arguments.out, part.suffix, part.data)
            answer.append((part, file))
            print(file or "", flush=True)
    if arguments.page:
        asked: list[tuple[Part, Path | None]] = []
        for part, given in zip_longest(prompt, arguments.prompt or []):
            if isinstance(part, Text):
                asked.append((part, None))
            else:
                asked.append((part, Path(given[1]) if given else keep(arguments.out, part.suffix, part.data)))
        write_bytes(arguments.page, document_page(arguments.page, asked, answer).encode())
        print(arguments.page)


def _settings(arguments: argparse.Namespace) -> "Settings":
    """What the arguments ask for. Raises `ConfigError`."""
    from mmpt.inference.settings import Settings

    sampler: object = {"temperature": arguments.temperature, "top_p": arguments.top_p, "top_k": arguments.top_k}
    if arguments.sampler is not None:
        if (arguments.temperature, arguments.top_p, arguments.top_k) != (0.0, 1.0, 0):
            raise ConfigError("--sampler: it goes without --temperature, --top-p and --top-k, which are settings of its own")
        sampler = _yaml("--sampler", arguments.sampler)
    samplers = dict.fromkeys(MODALITIES, sampler)
    for name in MEDIA:
        if (own := getattr(arguments, f"{name}_temperature")) is not None:
            if isinstance(sampler, str):
                raise ConfigError(f"--{name}-temperature: --sampler {sampler} takes no temperature; give it as a section")
            samplers[name] = {**sampler, "temperature": own} if isinstance(sampler, dict) else sampler
    settings = {
        "outputs": arguments.to or MODALITIES,
        "max_new_tokens": arguments.max_tokens,
        "guidance": arguments.guidance,
        "seed": arguments.seed,
        "alternate": arguments.alternate,
        **samplers,
    }
    return parse_config(settings, Settings, "mmpt generate")


def _yaml(name: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ConfigError(f"{name}: not valid YAML ({' '.join(str(problem).split())})") from None


def _add_serve(commands) -> None:
    parser = commands.add_parser(
        "serve",
        formatter_class=HelpFormatter,
        help="a server with chat completions and a page to try them",
        description="Serve a model at /v1/chat/completions, and a page at /. With the environment variable MMPT_TOKEN set, "
        "clients must send it as a bearer token.",
    )
    run_argument(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--running", type=int, default=16, help="sequences written at once")
    _renderer_argument(parser)
    parser.set_defaults(action=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    checkpoint, renderer = find_checkpoint(arguments.run), chosen_renderer(arguments.renderer)
    try:
        import uvicorn

        from mmpt.inference.server.api import LOCAL, build_app
    except ImportError as problem:
        raise ConfigError(f"mmpt serve needs {problem.name} (pip install mmpt[serve])") from None
    from mmpt.inference.decoding import DecodingProcess
    from mmpt.inference.load import load
    from mmpt.inference.server.limits import Limits

    token, local = os.environ.get("MMPT_TOKEN"), arguments.host in (*LOCAL, "127.0.0.1")
    if not local and not token:
        print(f"warning: anyone who reaches {arguments.host} may use this server; set MMPT_TOKEN", file=sys.stderr)
    name = f"{arguments.run.resolve().name}/{checkpoint.name}"
    model, limits, hosts = load(checkpoint), Limits(running=arguments.running), LOCAL if local else ("*",)
    with ExitStack() as stack:
        beside = model.model.device.type == "cpu"
        decode = stack.enter_context(DecodingProcess(checkpoint, renderer)) if beside else None
        if not beside:  # else only the process that draws needs it
            model.tokenizer.render_by(renderer)
        print(f"http://{arguments.host}:{arguments.port}/", flush=True)
        app = build_app(model, name, limits, token, hosts, decode, int((checkpoint / MANIFEST).stat().st_mtime))
        uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning", timeout_keep_alive=20)


def _add_export(commands) -> None:
    parser = commands.add_parser("export", formatter_class=HelpFormatter, help="a folder for other people's engines")
    run_argument(parser)
    parser.add_argument(
        "--to", choices=("hf", "llava"), default="hf", help="a causal LM of transformers, or a Llava, pictures too"
    )
    parser.add_argument("--out", type=Path, required=True, help="the new folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights")
    parser.add_argument("--keep-adapter", action="store_true", help="adapters as a peft folder, not merged")
    parser.set_defaults(action=_export)


def _export(arguments: argparse.Namespace) -> None:
    checkpoint = find_checkpoint(arguments.run)
    import torch

    from mmpt.model.export import export_hf

    said = export_hf(checkpoint, arguments.out, getattr(torch, arguments.dtype), arguments.keep_adapter, arguments.to == "llava")
    print("\n".join([str(arguments.out), *said]))


def _add_soup(commands) -> None:
    parser = commands.add_parser(
        "soup", formatter_class=HelpFormatter, help="average the weights of several checkpoints, or add what each has learned"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="checkpoints, or run folders (their newest)")
    parser.add_argument("--out", type=Path, required=True, help="the new checkpoint")
    parser.add_argument("--weights", nargs="+", type=float, help="one for each (default: equal; with --base 1)")
    parser.add_argument(
        "--base",
        type=Path,
        metavar="MODEL",
        help="to this checkpoint or published model add, times its weight (below 0: take away), what each RUN has learned beyond "
        "it; further RUNs may then be published models too",
    )
    parser.add_argument(
        "--method",
        metavar="YAML",
        default="task_arithmetic",
        help="with --base, how these changes become one: average, task_arithmetic, ties, dare_linear, dare_ties, "
        "or '{kind: ties, density: 0.1}'",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what a --method drops at random")
    for name, does in (
        ("greedy", "token shards on which a further one must help"),
        ("subsets", "token shards on which the average of every subset is measured and told; the best is saved"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, metavar="SHARDS", help=does)
    parser.set_defaults(action=_soup)


def _soup(arguments: argparse.Namespace) -> None:
    given = [name for name in ("greedy", "subsets", "weights", "base") if getattr(arguments, name)]
    if len(given) > 1 and given != ["weights", "base"]:
        raise ConfigError(f"{' and '.join(f'--{name}' for name in given)}: give one of them")
    method = chosen_merge(arguments.method)
    if not arguments.base and method.kind not in ("average", "task_arithmetic"):
        raise ConfigError(f"--method {method.kind}: it goes with --base, the model that the others come from")
    chosen = [find_model(run) if arguments.base else find_checkpoint(run) for run in arguments.runs]
    require_different(arguments.runs, chosen)
    from mmpt.evaluation.metrics.loss import held_out_loss
    from mmpt.model.soup import average, greedy, merged, save_soup, subsets

    if arguments.base:
        made = merged(find_model(arguments.base), chosen, method, arguments.weights, arguments.seed)
        save_soup(*made, chosen, arguments.out)
        print("\n".join([str(arguments.out), f"  on {arguments.base}", *(f"  of {path}" for path in chosen)]))
        return
    if arguments.subsets:
        found = subsets(chosen, lambda model, vocabulary: held_out_loss(model, vocabulary, arguments.subsets))
        print("\n".join(f"{loss:.4f}  {' '.join(map(str, some))}" for loss, some in found))
        chosen = found[0][1]
    if arguments.greedy:
        chosen, loss = greedy(chosen, lambda model, vocabulary: held_out_loss(model, vocabulary, arguments.greedy))
        print(f"{len(chosen)} of {len(arguments.runs)} go in, loss {loss:.4f} on {', '.join(map(str, arguments.greedy))}")
    save_soup(*average(chosen, arguments.weights), chosen, arguments.out)
    print("\n".join([str(arguments.out), *(f"  of {path}" for path in chosen)]))


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


def _renderer_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)


class _Append(argparse.Action):
    """Collects (option, value) pairs of several options in one list, in the order given."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        namespace.prompt = [*(namespace.prompt or []), (self.option_strings[0][2:], value)]


def _read_part(kind: Modality, value: str) -> Part:
    if kind == "text":
        return Text(value)
    from mmpt.inference.given import read_part

    try:
        return read_part(kind, Path(value))
    except ConfigError as problem:
        raise ConfigError(f"--{kind} {problem}") from None


if __name__ == "__main__":
    main()
