"""Build document shards from a specification; stopped at any moment, the same command goes on.

    python datasets/build.py SPEC.yaml OUT [key=value ...] [--processes N] [--ray ADDRESS]

OUT is a folder or a URL that fsspec knows (s3://…, gs://…). What could not be read is listed in OUT/lost.jsonl.
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.spec, BuildConfig, arguments.overrides)
    with progress_bars() as progress:
        summary = build(config, arguments.out, run_config(arguments), progress, "building")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
