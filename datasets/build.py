"""Build document shards from a specification: python datasets/build.py SPEC.yaml OUT [key=value ...]"""

import argparse
from pathlib import Path

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, build
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.spec, BuildConfig, arguments.overrides)
    with progress_bars() as progress:
        count = build(config, arguments.out, progress, f"building {arguments.out}")
    print(f"{arguments.out}: {count} documents")


if __name__ == "__main__":
    main()
