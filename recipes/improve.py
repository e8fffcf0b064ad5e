"""Let a model learn from its own answers: rounds of asking it, scoring what it says, and a training on that.

    python recipes/improve.py recipes/improve.yaml
    torchrun --nproc-per-node 2 recipes/improve.py recipes/improve.yaml output=runs/improved

OUTPUT/round-001 and so on have what was answered (answers.jsonl), the sequences that are learned (tokens/) and the run that
learns them (training/, as recipes/train.py makes it); OUTPUT/rounds.jsonl has a line for each. What is whole is not done again:
after SIGTERM or Ctrl-C the same command goes on where it was. The newest checkpoint of the last round is the result. On several
ranks the first one answers, and all learn.
"""

import signal
import sys
from typing import TYPE_CHECKING

from train import train

from mmpt.config import load_config
from mmpt.improvement.config import ImproveConfig, rounds, start_of, training_of
from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.training.stages import last_checkpoint

if TYPE_CHECKING:
    from mmpt.training.distributed import World


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="YAML file, see recipes/improve.yaml")
    add_overrides(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.config, ImproveConfig, arguments.overrides)
    # torch takes seconds: not before the file and all its rounds are known to be good.
    from mmpt.training.distributed import world

    try:
        with world() as ranks:
            sys.exit(improve(config, ranks))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


def improve(config: ImproveConfig, ranks: "World") -> int:
    """All rounds, but for what is there already. Returns the exit code."""
    from mmpt.improvement.rounds import answer, measure, note

    before, phases = None, rounds(config)
    checkpoint = find_checkpoint(start_of(training_of(config, 0, None)))
    measure(config, "before", checkpoint, ranks)
    for number in range(len(phases)):
        # A training has taken them to end after its step; what is answered is not kept by halves, and may end at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not answer(config, number, checkpoint, ranks):
            continue  # the next round asks the same model
        training = training_of(config, number, before)
        if not last_checkpoint(training).is_dir() and (code := train(training, ranks)):
            return code
        before, checkpoint = training, last_checkpoint(training)
    note(config, ranks)
    measure(config, "after", checkpoint, ranks)
    return 0


if __name__ == "__main__":
    main()
