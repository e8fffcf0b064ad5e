"""The `mmpt` command."""

import argparse
from pathlib import Path

from mmpt.document import Image, Part, Speech, Text
from mmpt.errors import ConfigError
from mmpt.scripts import main_guard


@main_guard
def main() -> None:
    """Entry point of the `mmpt` command."""
    parser = argparse.ArgumentParser(prog="mmpt", description="Models that read and write text, pictures and speech.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="continue a prompt of text, pictures and speech",
        description="Continue a prompt. --text, --image and --speech may be given in any order and number; the order counts.",
    )
    generate.add_argument("run", metavar="RUN", type=Path, help="a checkpoint folder, or a run folder (its newest checkpoint)")
    for name, metavar in (("text", "TEXT"), ("image", "FILE"), ("speech", "FILE")):
        generate.add_argument(f"--{name}", metavar=metavar, dest="prompt", action=_Append, help=f"a {name} part of the prompt")
    generate.add_argument("--to", nargs="+", choices=("text", "image", "speech"), help="what may be written (default: anything)")
    generate.add_argument("--out", type=Path, default=Path("."), help="folder for the .wav and .png files (default: here)")
    generate.add_argument("--max-tokens", type=int, default=256, help="most tokens to generate (default: 256)")
    generate.add_argument("--temperature", type=float, default=0.0, help="0 (the default) takes the likeliest token each time")
    generate.add_argument("--top-p", type=float, default=1.0, help="nucleus of the sampling (default: 1)")
    generate.add_argument("--seed", type=int, default=0)
    generate.set_defaults(action=_generate)
    inspect = commands.add_parser("inspect", help="show what a step of a run trains on")
    inspect.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    inspect.add_argument("--batch", metavar="STEP", type=int, required=True, help="number of the step, from 1")
    inspect.set_defaults(action=_inspect)
    arguments = parser.parse_args()
    arguments.action(arguments)


class _Append(argparse.Action):
    """Collects (option, value) pairs of several options in one list, in the order given."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        namespace.prompt = [*(namespace.prompt or []), (self.option_strings[0][2:], value)]


def _generate(arguments: argparse.Namespace) -> None:
    if not arguments.prompt:
        raise ConfigError("the prompt is empty: give --text, --image or --speech")
    prompt = [_read_part(kind, value) for kind, value in arguments.prompt]
    from mmpt.inference.load import OUTPUTS, load  # torch takes seconds to import: after the arguments are known to be good

    (answer,) = load(arguments.run).answer(
        [prompt], arguments.to or OUTPUTS, arguments.max_tokens, arguments.temperature, arguments.top_p, arguments.seed
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(answer.parts):
        if isinstance(part, Text):
            print(part.text)
        else:
            path = arguments.out / f"answer-{index}.{part.suffix}"
            path.write_bytes(part.data)
            print(path)


def _inspect(arguments: argparse.Namespace) -> None:
    from mmpt.training.inspect import describe_step

    print("\n".join(describe_step(arguments.run, arguments.batch)))


def _read_part(kind: str, value: str) -> Part:
    if kind == "text":
        return Text(value)
    path = Path(value)
    if not path.is_file():
        raise ConfigError(f"--{kind} {path}: no such file")
    if kind == "image":
        return Image(path.read_bytes(), path.suffix[1:], 0, 0)
    return Speech(path.read_bytes(), path.suffix[1:], 0, 0.0)


if __name__ == "__main__":
    main()
