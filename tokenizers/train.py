"""Train a text, a speech or an image tokenizer, a speech decoder, a vocoder or a text-to-token model on document shards.

    python tokenizers/train.py SPEC.yaml OUT [key=value ...]
    torchrun --nproc-per-node 2 tokenizers/train.py SPEC.yaml OUT
    python tokenizers/train.py SPEC.yaml OUT --dry-run --ranks 8 --pictures 5000000

OUT/tokenizer (vocoder, text_to_codes) is the result. Stopped at any moment, the same command goes on from the newest whole
checkpoint; SIGTERM or Ctrl-C: the step ends, a checkpoint is saved, exit code 143 or 130. A tokenizer that does not pass its
gates on `held_out` is written all the same: exit code 1, and OUT/evaluation.html says why.
"""

import sys
from pathlib import Path
from typing import cast

from mmpt.config import load_config
from mmpt.results import Figure, lines
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.training.specs import ImageSpec, SpeakingSpec, SpeechSpec, TokenizerSpec


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the result")
    add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="of pictures: say what the run would take, train nothing")
    parser.add_argument("--ranks", type=int, default=1, help="with --dry-run: on so many ranks")
    parser.add_argument("--pictures", type=int, help="with --dry-run: as if there were so many; by default those of the data")
    arguments = parser.parse_args()
    spec = load_config(arguments.spec, TokenizerSpec, arguments.overrides).root
    if arguments.dry_run:
        if not isinstance(spec, ImageSpec):
            parser.error(f"--dry-run: expected the specification of an image tokenizer, not of kind {spec.kind}")
        if arguments.ranks < 1 or (arguments.pictures is not None and arguments.pictures < 1):
            parser.error("--ranks and --pictures: expected numbers of 1 or more")
        from mmpt.training.tokenizer_plan import foretell_pictures

        print("\n".join(foretell_pictures(spec, arguments.ranks, arguments.pictures)))
        return
    # torch takes seconds: not before the specification is known to be good.
    from mmpt.training.distributed import world
    from mmpt.training.tokenizers import train_tokenizer

    with world() as ranks:
        stopped = train_tokenizer(spec, arguments.out, ranks)
        first = ranks.rank == 0
    if stopped:
        sys.exit(128 + stopped)
    if first and isinstance(spec, ImageSpec | SpeechSpec | SpeakingSpec) and spec.held_out:
        gates = of_pictures(spec, arguments.out) if isinstance(spec, ImageSpec) else of_speech(spec, arguments.out)
        print("\n".join(lines(gates)))
        sys.exit(0 if all(gate.ok for gate in gates) else 1)


def of_pictures(spec: ImageSpec, out: Path) -> list[Figure]:
    from mmpt.evaluation.metrics.image_gates import gate_figures
    from mmpt.evaluation.pages.image import evaluate_image_run

    held_out = cast(Path, spec.held_out)
    found = evaluate_image_run(out, held_out, out / "evaluation.html", spec.gates, trained_on=spec.data, examples=spec.examples)
    return gate_figures(found.figures, spec.gates, found.judge)


def of_speech(spec: SpeechSpec | SpeakingSpec, out: Path) -> list[Figure]:
    from mmpt.evaluation.metrics.speech_tokenizer import sound_gates
    from mmpt.evaluation.pages.speech import evaluate_speech_run

    found = evaluate_speech_run(out, cast(Path, spec.held_out), out / "evaluation.html", spec.gates)
    return sound_gates(found.figures, spec.gates)


if __name__ == "__main__":
    main()
