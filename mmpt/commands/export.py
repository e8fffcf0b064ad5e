"""`mmpt export`."""

import argparse
from pathlib import Path

from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, run_argument

PROCESSOR = "--logits-processors mmpt.inference.vllm.grammar_v2:GrammarProcessor"


def add_export(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser("export", formatter_class=HelpFormatter, help="a folder for other people's engines")
    run_argument(parser)
    parser.add_argument(
        "--to",
        choices=("hf", "llava", "vllm"),
        default="hf",
        help="a causal LM of transformers; a Llava, pictures too; or for vLLM, with what makes pictures and sound of its ids",
    )
    parser.add_argument("--out", type=Path, required=True, help="the new folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights")
    parser.add_argument("--keep-adapter", action="store_true", help="adapters as a peft folder, not merged")
    parser.set_defaults(action=_export)


def _export(arguments: argparse.Namespace) -> None:
    checkpoint = find_checkpoint(arguments.run)
    import torch

    from mmpt.model.export import export_hf

    dtype, llava, vllm = getattr(torch, arguments.dtype), arguments.to == "llava", arguments.to == "vllm"
    said = export_hf(checkpoint, arguments.out, dtype, arguments.keep_adapter, llava, vllm)
    if vllm:
        said += [
            f"vllm serve {arguments.out} {PROCESSOR}",
            f"mmpt serve {arguments.out} --port 8001 --engine http://localhost:8000",
        ]
    print("\n".join([str(arguments.out), *said]))
