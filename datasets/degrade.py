"""Interleaved documents to image-text pairs, or to plain text; every part that goes is listed in OUT/lost.jsonl.

python datasets/degrade.py IN OUT --to pairs [--text alt] [--processes N]
python datasets/degrade.py IN OUT --to text [--no-transcripts]
"""

import argparse

from mmpt.config import parse_config
from mmpt.data.curate.degrade import DegradeConfig, read, units
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.data.engine.run import write_set
from mmpt.data.sources.shards import hashes
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="IN")
    parser.add_argument("out")
    parser.add_argument("--to", choices=("pairs", "text"), required=True)
    parser.add_argument("--text", choices=("alt", "nearest"), default="nearest", help="the text of a picture in a pair")
    parser.add_argument("--transcripts", action=argparse.BooleanOptionalAction, default=True, help="keep what is said as text")
    add_run_options(parser)
    arguments = parser.parse_args()
    names = ("folder", "to", "text", "transcripts")
    config = parse_config({name: getattr(arguments, name) for name in names}, DegradeConfig, "options")
    with progress_bars() as progress:
        summary = write_set(
            arguments.out,
            read=read,
            config=config,
            units=units(config),
            built={"degrade": config.model_dump(mode="json", exclude={"folder"}), "shards": hashes(arguments.folder)},
            run=run_config(arguments),
            progress=progress,
            title="degrading",
        )
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
