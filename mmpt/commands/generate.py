"""`mmpt generate`: a prompt or a conversation, continued."""

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mmpt.config import parse_config
from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.modality import MEDIA, MODALITIES, Modality
from mmpt.model.checkpoints import find_checkpoint
from mmpt.progress import progress_bars
from mmpt.scripts import HelpFormatter, quantization_argument, run_argument
from mmpt.storage import MANIFEST, sha256, write_bytes
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer

if TYPE_CHECKING:
    from mmpt.inference.settings import Settings


def add_generate(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "generate",
        formatter_class=HelpFormatter,
        help="continue a prompt of text, pictures and speech",
        description="Continue a prompt. --text, --image and --speech may be given in any order and number; the order counts. "
        "--messages is a conversation instead, marked by the model's chat template. --batch is a file of requests to the server, "
        "in OpenAI's batch form, whose answers come into the folder --out; the same command goes on where it was stopped.",
    )
    run_argument(parser)
    for name, metavar in (("text", "TEXT"), ("image", "FILE"), ("speech", "FILE")):
        parser.add_argument(f"--{name}", metavar=metavar, dest="prompt", action=_Append, help=f"a {name} part of the prompt")
    parser.add_argument("--messages", metavar="FILE", type=Path, help="a conversation in JSON, in place of a prompt")
    parser.add_argument("--batch", metavar="FILE", type=Path, help="requests in JSON lines; each has settings of its own")
    parser.add_argument("--inline", action="store_true", help="of a batch: pictures and sounds within the answers, not as files")
    parser.add_argument("--running", type=int, default=16, help="of a batch: requests that are answered side by side")
    parser.add_argument("--to", nargs="+", choices=MODALITIES, help="what may be written (default: anything)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the .wav and .png files, or of a batch")
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
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    quantization_argument(parser)
    parser.set_defaults(action=_generate)


def _generate(arguments: argparse.Namespace) -> None:
    if arguments.batch:
        _batch(arguments)
        return
    if not (arguments.prompt or arguments.messages):
        raise ConfigError("the prompt is empty: give --text, --image or --speech, or --messages or --batch")
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
    model = load(checkpoint, renderer=renderer, quantization=arguments.quantization)
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


OF_REQUESTS = ("prompt", "messages", "to", "page", "max_tokens", "temperature", "top_p", "top_k", "image_temperature",
               "speech_temperature", "sampler", "guidance", "alternate", "seed")  # fmt: skip
"""Options that each request of a batch has in its body."""


def _batch(arguments: argparse.Namespace) -> None:
    plain = argparse.ArgumentParser()
    add_generate(plain.add_subparsers())
    defaults = plain.parse_args(["generate", str(arguments.run)])
    given = [name for name in OF_REQUESTS if getattr(arguments, name) != getattr(defaults, name)]
    if given:
        names = ", ".join("a prompt" if name == "prompt" else f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"--batch goes without {names}: each request says so itself")
    if arguments.running < 1:
        raise ConfigError(f"--running {arguments.running}: expected 1 or more")
    from mmpt.inference.batch.requests import count_lines

    count = count_lines(arguments.batch)
    checkpoint, renderer = find_checkpoint(arguments.run), chosen_renderer(arguments.renderer)
    try:
        from mmpt.inference.batch.run import run_batch
    except ImportError as problem:
        raise ConfigError(f"--batch needs {problem.name} (pip install mmpt[serve])") from None
    import asyncio

    from mmpt.inference.batch.answers import ANSWERS, answers
    from mmpt.inference.decoding import DecodingProcess
    from mmpt.inference.load import load
    from mmpt.inference.server.limits import Limits

    # The same name as `mmpt serve` has for it, so that the same requests go to either.
    name = f"{arguments.run.resolve().name}/{checkpoint.name}"
    of = {"format": "mmpt-batch/1", "batch": sha256(arguments.batch), "checkpoint": _identity(checkpoint)}
    options = {"renderer": arguments.renderer, "quantization": arguments.quantization}
    identity = of | {"model": name, "inline": arguments.inline, **options}
    with answers(arguments.out, identity, arguments.inline) as found, progress_bars() as bars:
        task = bars.add_task("answers", total=count, completed=len(found.done))
        if len(found.done) < count:
            model = load(checkpoint, quantization=arguments.quantization)
            with DecodingProcess(checkpoint, renderer) as decode:
                limits = Limits(running=arguments.running)
                asyncio.run(run_batch(arguments.batch, found, model, name, limits, decode, lambda: bars.advance(task)))
    print(arguments.out / ANSWERS)


def _identity(checkpoint: Path) -> str:
    manifest = checkpoint / MANIFEST
    return sha256(manifest) if manifest.is_file() else str(checkpoint.resolve())


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
