"""Train LoRA adapters, the rows of new tokens, or both, on a frozen model; go on from the run's newest checkpoint.

    python recipes/finetune.py recipes/finetune.yaml
    torchrun --nproc-per-node 2 recipes/finetune.py recipes/finetune.yaml from=runs/pretrain/checkpoints/step-00002000

Paths in the YAML file are relative to the working directory. SIGTERM or Ctrl-C: the step ends, a checkpoint is saved, exit code
143 or 130; the same command goes on from there.
"""

import sys
from typing import TYPE_CHECKING

from mmpt.config import load_config
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.training.config import FinetuneConfig

if TYPE_CHECKING:
    from mmpt.training.distributed import World


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="YAML file, see recipes/finetune.yaml")
    add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what the run would do, train two steps, leave nothing")
    arguments = parser.parse_args()
    config = load_config(arguments.config, FinetuneConfig, arguments.overrides)
    # torch takes seconds: not before the file is known to be good.
    from mmpt.training.distributed import world
    from mmpt.training.plan import rehearse
    from mmpt.training.stages import stages

    with world() as ranks:
        if arguments.dry_run:
            sys.exit(rehearse(config, ranks, train))
        sys.exit(next((code for stage in stages(config) if (code := train(stage, ranks))), 0))


def train(config: FinetuneConfig, ranks: "World") -> int:
    """Run to the last step, or to the step in which a signal comes. Returns the exit code."""
    from mmpt.evaluation.training_page import write_training_page
    from mmpt.model.forward import check_head
    from mmpt.model.leak import require_no_leak
    from mmpt.training.agreement import check_parts, settled
    from mmpt.training.background import background
    from mmpt.training.base import frozen_folder, open_base
    from mmpt.training.checkpoint import newest_checkpoint, restore_training, save_checkpoint, write_recipe
    from mmpt.training.distributed import watched
    from mmpt.training.engine import build_engine
    from mmpt.training.inputs import open_inputs
    from mmpt.training.metrics import metrics, step_amounts, step_figures
    from mmpt.training.plan import model_lines, require_room
    from mmpt.training.signals import StopRequest
    from mmpt.training.sources import open_loader, open_sources
    from mmpt.training.step import NonFiniteError, train_step

    stop, ranks = StopRequest(), ranks.sharing(config.sequence_parallel)
    config = settled(config)
    sources, vocabulary = open_sources(config)
    check_parts(config, vocabulary)
    checkpoint = newest_checkpoint(config.output, ranks)
    model = open_base(config, sources, checkpoint, ranks)
    check_head(model)
    inputs = open_inputs(config, checkpoint, model, ranks)
    require_no_leak(model)

    require_room(model, config, ranks, inputs)
    if ranks.rank == 0:
        write_recipe(config, config.output)
        print("\n".join(model_lines(model, config, ranks, inputs)))
    engine = build_engine(model, vocabulary, config, ranks, inputs)
    state = restore_training(engine, checkpoint) if checkpoint else {"step": 0, "loader": None}
    rank, readers = ranks.reader
    loader = open_loader(config, sources, rank=rank, world_size=readers, state=state["loader"], inputs=inputs)
    if ranks.rank == 0:
        print(f"from step {state['step']}; {loader.summary()}", flush=True)

    with (
        watched(ranks, config.stall_timeout) as ranks,
        background() as saving,
        metrics(config.output, config, ranks, state["step"], vocabulary) as log,
    ):
        for step, batches in zip(range(state["step"] + 1, config.steps + 1), log.waiting(loader), strict=False):
            if step in config.skip_steps:
                continue
            try:
                result = train_step(engine, batches, step, config, ranks, stop.number)
                log.log(step, step_figures(result, config), step_amounts(result))
            except NonFiniteError as problem:
                result = log.skip(step, problem)
            saving.check()
            if step % config.save_every == 0 or step == config.steps or result.stop:
                save_checkpoint(engine, step, loader.state_dict(), config, ranks, saving, frozen=frozen_folder(config))
            if result.stop:
                return 128 + result.stop
    if ranks.rank == 0:
        print(write_training_page(config.output))
    return 0


if __name__ == "__main__":
    main()
