"""`mmpt export`."""

import argparse
from pathlib import Path

from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, run_argument


def add_export(commands) -> None:
    """Add the command to those of `mmpt`."""
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
