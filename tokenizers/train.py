"""Train a speech or an image tokenizer: python tokenizers/train.py SPEC.yaml OUT [key=value ...]

OUT/tokenizer is the result. Stopped at any moment, the same command goes on from the last saved state.
"""

import argparse
from pathlib import Path

from mmpt.config import load_config
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard
from mmpt.training.tokenizers import TokenizerSpec, train_tokenizer


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    spec = load_config(arguments.spec, TokenizerSpec, arguments.overrides).root
    with progress_bars() as progress:
        train_tokenizer(spec, arguments.out, progress)


if __name__ == "__main__":
    main()
