"""`mmpt import`."""

import argparse
from pathlib import Path

from mmpt.scripts import HelpFormatter


def add_import(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "import",
        formatter_class=HelpFormatter,
        help="a vision language model of transformers as a checkpoint",
        description="Write a Llava or an InternVL of transformers as a checkpoint: decoder, vision tower and projector with "
        "their weights. It answers (mmpt generate), and a recipe begins from it: `from: OUT`, or where all of its weights learn "
        "`backbone: {path: OUT/backbone}` with `features_from: OUT`. datasets/to_tokens.py takes OUT/text_tokenizer.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder, a Hugging Face name, or hf://OWNER/NAME")
    parser.add_argument("--out", type=Path, required=True, help="the new checkpoint")
    for name in ("speech", "image"):
        parser.add_argument(f"--{name}-tokenizer", type=Path, help=f"its codes of {name} get rows too")
    parser.set_defaults(action=_import)


def _import(arguments: argparse.Namespace) -> None:
    from mmpt.model.import_vlm import import_vlm

    said = import_vlm(arguments.model, arguments.out, arguments.speech_tokenizer, arguments.image_tokenizer)
    print("\n".join([str(arguments.out), *said]))
