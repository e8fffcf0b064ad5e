"""`mmpt soup`."""

import argparse
from pathlib import Path

from mmpt.errors import ConfigError
from mmpt.model.checkpoints import find_checkpoint, find_model, require_different
from mmpt.model.merges import chosen_merge
from mmpt.scripts import HelpFormatter


def add_soup(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "soup", formatter_class=HelpFormatter, help="average the weights of several checkpoints, or add what each has learned"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="checkpoints, or run folders (their newest)")
    parser.add_argument("--out", type=Path, required=True, help="the new checkpoint")
    parser.add_argument("--weights", nargs="+", type=float, help="one for each (default: equal; with --base 1)")
    parser.add_argument(
        "--base",
        type=Path,
        metavar="MODEL",
        help="to this checkpoint or published model add, times its weight (below 0: take away), what each RUN has learned beyond "
        "it; further RUNs may then be published models too",
    )
    parser.add_argument(
        "--method",
        metavar="YAML",
        default="task_arithmetic",
        help="with --base, how these changes become one: average, task_arithmetic, ties, dare_linear, dare_ties, "
        "or '{kind: ties, density: 0.1}'",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what a --method drops at random")
    for name, does in (
        ("greedy", "token shards on which a further one must help"),
        ("subsets", "token shards on which the average of every subset is measured and told; the best is saved"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, metavar="SHARDS", help=does)
    parser.set_defaults(action=_soup)


def _soup(arguments: argparse.Namespace) -> None:
    given = [name for name in ("greedy", "subsets", "weights", "base") if getattr(arguments, name)]
    if len(given) > 1 and given != ["weights", "base"]:
        raise ConfigError(f"{' and '.join(f'--{name}' for name in given)}: give one of them")
    method = chosen_merge(arguments.method)
    if not arguments.base and method.kind not in ("average", "task_arithmetic"):
        raise ConfigError(f"--method {method.kind}: it goes with --base, the model that the others come from")
    chosen = [find_model(run) if arguments.base else find_checkpoint(run) for run in arguments.runs]
    require_different(arguments.runs, chosen)
    from mmpt.evaluation.metrics.loss import held_out_loss
    from mmpt.model.soup import average, greedy, merged, save_soup, subsets

    if arguments.base:
        made = merged(find_model(arguments.base), chosen, method, arguments.weights, arguments.seed)
        save_soup(*made, chosen, arguments.out)
        print("\n".join([str(arguments.out), f"  on {arguments.base}", *(f"  of {path}" for path in chosen)]))
        return
    if arguments.subsets:
        found = subsets(chosen, lambda model, vocabulary: held_out_loss(model, vocabulary, arguments.subsets))
        print("\n".join(f"{loss:.4f}  {' '.join(map(str, some))}" for loss, some in found))
        chosen = found[0][1]
    if arguments.greedy:
        chosen, loss = greedy(chosen, lambda model, vocabulary: held_out_loss(model, vocabulary, arguments.greedy))
        print(f"{len(chosen)} of {len(arguments.runs)} go in, loss {loss:.4f} on {', '.join(map(str, arguments.greedy))}")
    save_soup(*average(chosen, arguments.weights), chosen, arguments.out)
    print("\n".join([str(arguments.out), *(f"  of {path}" for path in chosen)]))
