"""Short utterances to long ones: neighbours of a shard one after the other, in one sound with one transcript.

python datasets/join.py IN OUT [--least SECONDS] [--most SECONDS] [--seed N] [--processes N]
"""

from mmpt.config import parse_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.join import Join
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    defaults = Join()
    parser = script_parser(__doc__)
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    parser.add_argument("--least", type=float, default=defaults.least, help="seconds that the shortest are to have")
    parser.add_argument("--most", type=float, default=defaults.most, help="seconds that none is longer than")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of how long each is to be")
    add_run_options(parser)
    arguments = parser.parse_args()
    step = parse_config({name: getattr(arguments, name) for name in ("least", "most", "seed")}, Join, "options")
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "joining")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
