"""Filter document shards by a list of rules; what goes is listed in OUT/lost.jsonl with its rule, scores stay with the documents.

python datasets/filter.py RULES.yaml IN OUT [key=value ...] [--processes N]
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.filter import FilterConfig, FilterJob, read, units
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.data.engine.run import write_set
from mmpt.data.sources.shards import hashes
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
    spec = load_config(arguments.rules, FilterConfig, arguments.overrides)
    job = FilterJob(folder=arguments.folder, spec=spec)
    with progress_bars() as progress:
        summary = write_set(
            arguments.out,
            read=read,
            config=job,
            units=units(job),
            built={"filter": spec.model_dump(mode="json"), "from": arguments.folder, "shards": hashes(arguments.folder)},
            run=run_config(arguments),
            progress=progress,
            title="filtering",
        )
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
