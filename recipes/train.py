"""Train a language model on token shards: every weight of it, or what is added to frozen ones; go on from the run's newest
checkpoint where there is one.

    python recipes/train.py recipes/pretrain.yaml
    torchrun --nproc-per-node 2 recipes/train.py recipes/finetune.yaml steps=2000 optimizer.learning_rate=0.001

Paths in the YAML file are relative to the working directory. SIGTERM or Ctrl-C: the step ends, a checkpoint is saved, exit code
143 or 130; the same command goes on from there.
"""

import sys
from typing import TYPE_CHECKING

from mmpt.config import load_config
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.training.config import TrainingConfig
from mmpt.training.stages import stages

if TYPE_CHECKING:
    from mmpt.training.distributed import World


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="YAML file, see recipes/pretrain.yaml and recipes/finetune.yaml")
    add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what the run would do, train two steps, leave nothing")
    parser.add_argument("--ranks", type=int, help="with --dry-run: only say it, for so many ranks; no weight is loaded")
    arguments = parser.parse_args()
    if arguments.ranks is not None and (arguments.ranks < 1 or not arguments.dry_run):
        parser.error("--ranks: expected a number of 1 or more, beside --dry-run")
    config = load_config(arguments.config, TrainingConfig, arguments.overrides)
    runs = stages(config)
    # torch takes seconds: not before the file and all its stages are known to be good.
    from mmpt.training.distributed import world
    from mmpt.training.plan import foretell, rehearse

    if arguments.ranks is not None:
        print("\n".join(foretell(config, arguments.ranks)))
        return
    with world() as ranks:
        if arguments.dry_run:
            sys.exit(rehearse(config, ranks, train))
        sys.exit(next((code for run in runs if (code := train(run, ranks))), 0))


def train(config: TrainingConfig, ranks: "World") -> int:
    """Run to the last step, or to the step in which a signal comes. Returns the exit code."""
    from mmpt.evaluation.pages.training import write_training_page
    from mmpt.model.forward import check_head
    from mmpt.model.leak import require_no_leak
    from mmpt.training import trainer
    from mmpt.training.agreement import check_parts, settled
    from mmpt.training.background import background
    from mmpt.training.base import open_model
    from mmpt.training.checkpoint import newest_checkpoint, restore_training, save_checkpoint, settle_best, write_recipe
    from mmpt.training.distributed import watched
    from mmpt.training.engine import build_engine
    from mmpt.training.inputs import check_views, open_inputs, open_start
    from mmpt.training.metrics import language_model_line, metrics
    from mmpt.training.plan import model_lines, require_room
    from mmpt.training.profiling import profiled
    from mmpt.training.ramp import ramped
    from mmpt.training.signals import StopRequest
    from mmpt.training.sources import chat_format, open_loader, open_sources, trained_prompts

    stop, ranks = StopRequest(), ranks.sharing(config.loader.sequence_parallel)
    config = settled(config)
    sources, vocabulary = open_sources(config)
    chat = chat_format(config, sources)
    check_parts(config, vocabulary)
    checkpoint = newest_checkpoint(config.output, ranks, copies=config.run.copy_to)
    model = open_model(config, sources, checkpoint, ranks)
    check_head(model)
    inputs = open_inputs(config, checkpoint, model, ranks)
    if inputs is not None:
        check_views(inputs, sources)
    require_no_leak(model)

    require_room(model, config, ranks, inputs)
    if ranks.rank == 0:
        write_recipe(config, config.output)
        print("\n".join(model_lines(model, config, ranks.size, inputs)))
    start = open_start(config, sources, ranks) if config.compares else None
    engine = build_engine(model, vocabulary, config, ranks, inputs, start, checkpoint)
    state = restore_training(engine, checkpoint) if checkpoint else {"step": 0, "loader": None}
    rank, readers = ranks.reader
    loader = open_loader(config, sources, rank=rank, world_size=readers, state=state["loader"], inputs=inputs)
    if ranks.rank == 0:
        print(f"from step {state['step']}; {loader.summary()}", flush=True)
    settle_best(config.output, state.get("evaluation"), ranks)

    first = state["step"] + 1
    batches = ramped(engine, loader) if config.loader.ramp else loader
    with (
        watched(ranks, config.run.stall_timeout) as ranks,
        background() as saving,
        metrics(config.output, config, ranks, state["step"], vocabulary) as log,
        profiled(batches, first, config.run.profile, config.output, ranks, log) as batches,
    ):
        evaluation = None
        if config.evaluate is not None:
            from mmpt.training.evaluating import Evaluation

            evaluation = Evaluation(config, engine, ranks, chat, state.get("evaluation"), sources)

        def save(step: int) -> None:
            best = None if evaluation is None else evaluation.state_dict()
            save_checkpoint(
                engine, step, loader.state_dict(), config, ranks, saving, chat, best, trained_prompts(config, sources)
            )

        stopped = trainer.train(
            engine,
            () if evaluation is not None and evaluation.over else batches,
            first,
            config,
            ranks,
            log,
            saving,
            figures=lambda step, result: language_model_line(step, result, config),
            save=save,
            asked=lambda: stop.number,
            evaluate=lambda step: trainer.GO_ON if evaluation is None else evaluation.after(step, log),
        )
    if stopped:
        return 128 + stopped
    if ranks.rank == 0:
        print(write_training_page(config.output))
    return 0


if __name__ == "__main__":
    main()
