"""Document shards rewritten by a language model: paraphrased, mended, thought about, asked about, recaptioned.

python datasets/rewrite.py SPEC.yaml IN OUT [key=value ...] [--answers FILE]

Stopped at any moment, the same command goes on; what was answered is never asked again. Answers that cannot be used are listed in
OUT/lost.jsonl by what was wrong with them.
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.inference.rewriting import Rewriting, rewrite
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    parser.add_argument("--answers", metavar="FILE", help="where answers are kept, by default OUT.answers.sqlite")
    add_overrides(parser)
    add_run_options(parser)
    parser.set_defaults(processes=1)  # each loads the model anew
    arguments = parser.parse_args()
    rewriting = load_config(arguments.spec, Rewriting, arguments.overrides)
    with progress_bars() as progress:
        summary = rewrite(rewriting, arguments.folder, arguments.out, arguments.answers, run_config(arguments), progress)
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
