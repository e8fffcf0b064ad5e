"""Score every document of a set; the numbers are written beside it, as SET/scores/NAME/SHARD.npy, for datasets/select.py.

    python datasets/score.py SPEC.yaml SET [key=value ...] [--processes N]

Stopped at any moment, the same command goes on; a shard that has its scores is not scored again.
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.scoring import ScoreConfig, score
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="SET", help="a set of document shards, a folder or a URL")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.spec, ScoreConfig, arguments.overrides)
    with progress_bars() as progress:
        summary = score(config, arguments.folder, run_config(arguments), progress)
    print(f"{arguments.folder}: {summary}")


if __name__ == "__main__":
    main()
