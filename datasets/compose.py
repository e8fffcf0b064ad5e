"""Document shards to richer ones: few-shot contexts, conversations of several pictures, marks, mixtures of speakers, read texts.

python datasets/compose.py SPEC.yaml IN OUT [key=value ...] [--processes N]
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.compose import Compose
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    step = load_config(arguments.spec, Compose, arguments.overrides)
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "composing")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
