"""Run a suite of benchmarks on a model; their files are read where they lie, in their own formats.

    python recipes/evaluate.py RUN recipes/evaluate.yaml --out runs/quickstart/benchmarks
    python recipes/evaluate.py --report page.html runs/a/benchmarks runs/b/benchmarks

RUN is a checkpoint or a run folder; `{run}` in the suite stands for it. Writes OUT/results.json, OUT/examples and
OUT/report.html. Exit code 1 where a benchmark could not be run; the others are run all the same. Killed, the same command goes on
after the last benchmark that was done. With --report: one page on several results.
"""

import sys
from pathlib import Path

from mmpt.errors import ConfigError
from mmpt.scripts import main_guard, script_parser
from mmpt.storage import MANIFEST, sha256
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN SUITE.yaml", help="or with --report: folders of results")
    parser.add_argument("--out", type=Path, help="where the results go (default: RUN/benchmarks)")
    parser.add_argument("--report", type=Path, metavar="PAGE.html", help="write one page on the results in the folders given")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    arguments = parser.parse_args()
    renderer = chosen_renderer(arguments.renderer)
    if arguments.report:
        from mmpt.evaluation.pages.suite import write_page

        print(write_page(arguments.paths, arguments.report))
        return
    if len(arguments.paths) != 2:
        raise ConfigError("expected RUN and SUITE.yaml")
    from mmpt.evaluation.suite import load_suite, run_suite

    run, suite = arguments.paths
    config = load_suite(suite, run)
    from mmpt.evaluation.pages.suite import write_page
    from mmpt.inference.load import load
    from mmpt.model.checkpoints import find_checkpoint

    out = arguments.out or run / "benchmarks"
    checkpoint = find_checkpoint(run)
    manifest = checkpoint / MANIFEST
    digest = sha256(manifest) if manifest.is_file() else ""
    # What was done before by another renderer is another model's.
    identity = " ".join(part for part in (str(checkpoint), digest, arguments.renderer) if part)
    failed = run_suite(config, load(checkpoint, renderer=renderer), str(run), out, identity)
    print(write_page([out], out / "report.html"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
