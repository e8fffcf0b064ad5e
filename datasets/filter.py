"""Filter document shards by a list of rules; what goes is listed in OUT/lost.jsonl with its rule, scores stay with the documents.

python datasets/filter.py RULES.yaml IN OUT [key=value ...] [--processes N]
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.filter import Filter
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("rules", type=Path, metavar="RULES.yaml", help="list of rules")
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    step = load_config(arguments.rules, Filter, arguments.overrides)
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "filtering")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
