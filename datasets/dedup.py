"""Document shards without duplicates: equal documents, texts alike, pictures alike; each that goes is listed in OUT/lost.jsonl.

    python datasets/dedup.py IN [IN ...] OUT [--text 0.8] [--image-distance 5] [--max-copies 10] [--scope source]
    python datasets/dedup.py IN [IN ...] OUT --against EARLIER.signatures
    python datasets/dedup.py IN [IN ...] OUT --settings datasets/specs/dedup_lines.yaml

The first of several stays, in the order of the sets given. `--text 0` and `--image-distance -1` leave a comparison out. With
`--settings` a file says how: of kind dedup, dedup_lines, dedup_semantic or dedup_semantic_pictures. What is kept of the documents
to compare them lies beside OUT; stopped at any moment, the same command goes on, and a later one compares with it by `--against`.
"""

from pathlib import Path

from mmpt.config import load_config, parse_config, read_yaml
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps import Step
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.errors import ConfigError
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser

KINDS = ("dedup", "dedup_lines", "dedup_semantic", "dedup_semantic_pictures")


@main_guard
def main() -> None:
    defaults = Dedup()
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="IN", help="sets of document shards")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    parser.add_argument("--settings", type=Path, metavar="FILE.yaml", help="how it is done, in place of the options below")
    parser.add_argument("--against", nargs="+", default=(), metavar="FOLDER", help="what earlier runs have kept beside their OUT")
    parser.add_argument("--text", type=float, default=defaults.text, help="Jaccard similarity of texts that are the same")
    parser.add_argument("--ngram", type=int, default=defaults.ngram, help="words of a shingle")
    parser.add_argument("--keyed-on", choices=("both", "text", "media"), default=defaults.keyed_on, help="what must be alike")
    parser.add_argument("--image-distance", type=int, default=defaults.image_distance, help="bits of 64 that may differ")
    parser.add_argument("--sound-distance", type=float, help="share of bits that may differ, 0.35; left out: equal bytes")
    parser.add_argument("--max-copies", type=int, default=defaults.max_copies, help="documents that one picture may be in")
    parser.add_argument("--scope", choices=("global", "source"), default=defaults.scope, help="what is compared with each other")
    add_run_options(parser)
    arguments = parser.parse_args()
    if arguments.settings:
        kind = read_yaml(arguments.settings).get("kind")
        if kind not in KINDS:
            raise ConfigError(f"{arguments.settings}: kind: expected one of {', '.join(KINDS)}")
        step = load_config(arguments.settings, Step.member(kind))
        step = step.model_copy(update={"against": (*getattr(step, "against", ()), *arguments.against)})
    else:
        names = ("text", "ngram", "keyed_on", "image_distance", "sound_distance", "max_copies", "scope", "against")
        options = {name: getattr(arguments, name) for name in names}
        left_out = {"text": 0, "image_distance": -1}
        options |= {name: None for name, value in left_out.items() if options[name] == value}
        step = parse_config(options, Dedup, "options")
    with progress_bars() as progress:
        summary = curate(step, arguments.folders, arguments.out, run_config(arguments), progress, "writing")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
