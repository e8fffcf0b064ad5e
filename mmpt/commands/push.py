"""`mmpt push`."""

import argparse
from pathlib import Path

from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, run_argument


def add_push(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "push",
        formatter_class=HelpFormatter,
        help="a checkpoint with its model card to the Hugging Face hub, or into a folder",
        description="Put a checkpoint, without its optimizer's state and with a model card made from the run's results, into a "
        "repository of the Hugging Face hub or into a new folder. `hf://OWNER/NAME` then stands for it wherever a RUN does. The "
        "hub's token is that of `hf auth login` or HF_TOKEN.",
    )
    run_argument(parser)
    parser.add_argument("to", metavar="REPO", help="OWNER/NAME on the hub, or a folder: ./NAME")
    parser.add_argument("--license", help="for the card: an identifier of the hub such as apache-2.0 (default: unknown)")
    parser.add_argument("--private", action="store_true", help="where the repository is new, others do not see it")
    parser.add_argument("--export", action="store_true", help="what `mmpt export` writes, for transformers, not for mmpt")
    parser.set_defaults(action=_push)


def _push(arguments: argparse.Namespace) -> None:
    checkpoint = find_checkpoint(arguments.run)
    from mmpt.evaluation.card import model_card
    from mmpt.model.hub import CHECKPOINT, push

    def export(out: Path) -> None:
        from mmpt.model.export import export_hf

        export_hf(checkpoint, out)

    def card(name: str) -> str:
        return model_card(checkpoint, name, arguments.license, arguments.export)

    print(push(checkpoint, arguments.to, CHECKPOINT, card, arguments.private, export if arguments.export else None))
