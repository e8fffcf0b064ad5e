"""Text to speech-text documents: random spans of words are spoken, or cut from utterances with word times.

python datasets/interleave.py SPEC.yaml IN OUT [key=value ...] [--processes N]

With `speech: {kind: text_to_codes, …}` OUT are token shards, made without any waveform; else document shards.
"""

from pathlib import Path

from mmpt.config import load_config
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.interleave import Interleave
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    step = load_config(arguments.spec, Interleave, arguments.overrides)
    with progress_bars() as progress:
        summary = curate(step, [arguments.folder], arguments.out, run_config(arguments), progress, "speaking")
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
