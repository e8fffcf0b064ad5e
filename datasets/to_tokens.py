"""Encode document shards with the three tokenizers; stopped at any moment, the same command goes on.

    python datasets/to_tokens.py SPEC.yaml SHARDS OUT [key=value ...] [--processes N] [--ray ADDRESS]

(Not `tokenize.py`: a script's own folder comes first on the import path, and that name is the standard library's.)
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("shards", metavar="SHARDS", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    step = load_config(arguments.spec, ToTokens, arguments.overrides)
    with progress_bars() as progress:
        summary = curate(step, [arguments.shards], arguments.out, run_config(arguments), progress, "encoding")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
