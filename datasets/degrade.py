"""Interleaved documents to image-text pairs, or to plain text; every part that goes is listed in OUT/lost.jsonl.

python datasets/degrade.py IN OUT --to pairs [--text alt] [--processes N]
python datasets/degrade.py IN OUT --to text [--no-transcripts]
"""

import argparse

from mmpt.config import parse_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.degrade import Degrade
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    parser.add_argument("--to", choices=("pairs", "text"), required=True, help="what is made of each document")
    parser.add_argument("--text", choices=("alt", "nearest"), default="nearest", help="the text of a picture in a pair")
    parser.add_argument("--transcripts", action=argparse.BooleanOptionalAction, default=True, help="keep what is said as text")
    add_run_options(parser)
    arguments = parser.parse_args()
    names = ("to", "text", "transcripts")
    step = parse_config({name: getattr(arguments, name) for name in names}, Degrade, "options")
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "degrading")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
