"""Document shards without duplicates: equal documents, texts alike, pictures alike; each that goes is listed in OUT/lost.jsonl.

    python datasets/dedup.py IN [IN ...] OUT [--text 0.8] [--image-distance 5] [--max-copies 10] [--scope source]

The first of several stays, in the order of the sets given. `--text 0` and `--image-distance -1` leave a comparison out.
"""

from mmpt.config import parse_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    defaults = Dedup()
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="IN", help="sets of document shards")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    parser.add_argument("--text", type=float, default=defaults.text, help="Jaccard similarity of texts that are the same")
    parser.add_argument("--ngram", type=int, default=defaults.ngram, help="words of a shingle")
    parser.add_argument("--image-distance", type=int, default=defaults.image_distance, help="bits of 64 that may differ")
    parser.add_argument("--max-copies", type=int, default=defaults.max_copies, help="documents that one picture may be in")
    parser.add_argument("--scope", choices=("global", "source"), default=defaults.scope, help="what is compared with each other")
    add_run_options(parser)
    arguments = parser.parse_args()
    names = ("text", "ngram", "image_distance", "max_copies", "scope")
    options = {name: getattr(arguments, name) for name in names}
    left_out = {"text": 0, "image_distance": -1}
    options |= {name: None for name, value in left_out.items() if options[name] == value}
    step = parse_config(options, Dedup, "options")
    with progress_bars() as progress:
        summary = curate(step, arguments.folders, arguments.out, run_config(arguments), progress, "writing")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
