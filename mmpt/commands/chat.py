"""`mmpt chat`: a conversation in the terminal."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mmpt.document import Image, Speech, Text
from mmpt.errors import ConfigError, MmptError
from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, quantization_argument, run_argument
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer

if TYPE_CHECKING:
    from mmpt.inference.talk import Talk

COMMANDS = """\
/image FILE      attach a picture to what you say next
/speech FILE     attach a recording
/say             send what is attached, without a text
/undo            take the last question and its answer back
/clear           begin anew
/save FILE       the conversation as messages in JSON, media beside it: mmpt generate RUN --messages FILE
/settings        what is set; /settings temperature=0.8 sets, /settings temperature= takes back
/help            this
A line that begins with // is said with one /. Ctrl-C stops an answer, Ctrl-D ends."""


def add_chat(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "chat",
        formatter_class=HelpFormatter,
        help="talk with a model in the terminal",
        description="Talk with a model. Each line is a turn, and earlier ones are kept; pictures and sounds become files.\n\n"
        + COMMANDS,
    )
    run_argument(parser)
    parser.add_argument("--system", metavar="TEXT", help="what the system says before all")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the .wav and .png files")
    parser.add_argument("--media-first", action="store_true", help="what is attached before the text of a turn, not behind it")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    quantization_argument(parser)
    parser.set_defaults(action=_chat)


def _chat(arguments: argparse.Namespace) -> None:
    checkpoint, renderer = find_checkpoint(arguments.run), chosen_renderer(arguments.renderer)
    from mmpt.inference.load import load
    from mmpt.inference.talk import Talk

    arguments.out.mkdir(parents=True, exist_ok=True)
    model = load(checkpoint, renderer=renderer, quantization=arguments.quantization)
    if model.tokenizer.chat is None:
        print(f"{checkpoint}: no chat template, so the turns are read as one text without roles", file=sys.stderr)
    talk = Talk(model)
    if arguments.system:
        talk.system(arguments.system)
    if sys.stdin.isatty():
        print("/help tells the commands")
    turns = _Turns(talk, arguments.out, arguments.media_first)
    with _history():
        for line in _typed():
            turns.take(line)


class _Turns:
    """What has been attached to the next turn, and what to do with a line."""

    def __init__(self, talk: "Talk", out: Path, media_first: bool) -> None:
        self._talk, self._out, self._media_first = talk, out, media_first
        self._media: list[Image | Speech] = []

    def take(self, line: str) -> None:
        """Do what a line says; what is wrong with it is told, and the conversation goes on."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(*line[1:].strip().partition(" ")[::2])
            elif line.strip():
                self._say([Text(line.removeprefix("/") if line.startswith("//") else line)])
        except MmptError as problem:
            print(f"error: {problem}", file=sys.stderr)

    def _command(self, name: str, rest: str) -> None:
        rest = rest.strip()
        if name in ("image", "speech"):
            from mmpt.inference.given import read_part

            self._media.append(read_part(name, Path(os.path.expanduser(rest))))
            print(f"{rest}: goes with what you say next")
        elif name == "say" and self._media:
            self._say([])
        elif name == "undo":
            print("taken back" if self._talk.undo() else "there is nothing to take back")
        elif name == "clear":
            self._media.clear()
            self._talk.clear()
            print("forgotten")
        elif name == "save" and rest:
            print("\n".join(map(str, self._talk.save(Path(os.path.expanduser(rest))))))
        elif name == "settings":
            self._set(rest)
        elif name == "help":
            print(COMMANDS)
        else:
            raise ConfigError(f"/{name}: no such command, or something is missing; /help tells them")

    def _set(self, rest: str) -> None:
        key, _, value = rest.partition("=")
        if rest:
            try:
                self._talk.set(key.strip(), yaml.safe_load(value))
            except yaml.YAMLError as problem:
                raise ConfigError(f"{key}: not valid YAML ({' '.join(str(problem).split())})") from None
        print(yaml.safe_dump(self._talk.given, sort_keys=False).rstrip() if self._talk.given else "nothing is set")

    def _say(self, text: list[Text]) -> None:
        """Say it, and what is attached, and print the answer."""
        from mmpt.inference.document_page import keep
        from mmpt.inference.events import PartDone, TextDelta

        said = [*self._media, *text] if self._media_first else [*text, *self._media]
        answer = self._talk.ask(said)
        self._media.clear()
        try:
            for event in answer:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
                elif isinstance(event, PartDone):
                    part = event.content
                    print("" if isinstance(part, Text) else keep(self._out, part.suffix, part.data), flush=True)
        except KeyboardInterrupt:
            answer.close()
            print("\n[stopped]", flush=True)


def _typed() -> Iterator[str]:
    """The lines, up to the end of the input; Ctrl-C throws away what stands in one."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            yield input(prompt)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """On a terminal, earlier lines come back with the arrow keys, those of earlier conversations too."""
    try:
        import readline
    except ImportError:  # Windows
        readline = None
    if readline is None or not sys.stdin.isatty():
        yield
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mmpt"
    with contextlib.suppress(OSError):
        readline.read_history_file(state / "chat_history")
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            state.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(state / "chat_history")
