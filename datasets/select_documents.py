"""Keep documents by the scores beside their set and by their meta; what goes is listed in OUT/lost.jsonl with its rule.

    python datasets/select_documents.py SPEC.yaml SET OUT [key=value ...] [--processes N]

(Not `select.py`: a script's own folder comes first on the import path, and that name is the standard library's.)
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.select import Select
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="SET", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    step = load_config(arguments.spec, Select, arguments.overrides)
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "selecting")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
