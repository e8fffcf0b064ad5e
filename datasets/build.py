"""Build document shards from a specification; stopped at any moment, the same command goes on.

    python datasets/build.py SPEC.yaml OUT [key=value ...] [--processes N] [--ray ADDRESS]

OUT is a folder or a URL that fsspec knows (s3://…, gs://…). What could not be read is listed in OUT/lost.jsonl.
"""

import argparse
from pathlib import Path

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    add_run_options(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.spec, BuildConfig, arguments.overrides)
    with progress_bars() as progress:
        summary = build(config, arguments.out, run_config(arguments), progress, "building")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
