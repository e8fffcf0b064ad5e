"""One set of document shards from one or several: merged in the order given, and cut anew.

    python datasets/reshard.py IN [IN ...] OUT [--max-bytes N] [--processes N] [--ray ADDRESS]

Of documents with the same id the first is kept, the others are listed in OUT/lost.jsonl, as are damaged ones.
"""

from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.data.sources.shards import Shards
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="IN", help="sets of document shards")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_run_options(parser)
    arguments = parser.parse_args()
    config = BuildConfig(sources=tuple(Shards(folder=folder) for folder in arguments.folders))
    with progress_bars() as progress:
        summary = build(config, arguments.out, run_config(arguments), progress, "writing")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
