"""Train a speech or an image tokenizer, a vocoder or a text-to-token model on document shards.

    python tokenizers/train.py SPEC.yaml OUT [key=value ...]
    torchrun --nproc-per-node 2 tokenizers/train.py SPEC.yaml OUT

OUT/tokenizer (vocoder, text_to_codes) is the result. Stopped at any moment, the same command goes on from the newest whole
checkpoint; SIGTERM or Ctrl-C: the step ends, a checkpoint is saved, exit code 143 or 130.
"""

import argparse
import sys
from pathlib import Path

from mmpt.config import load_config
from mmpt.scripts import main_guard
from mmpt.training.distributed import world
from mmpt.training.specs import TokenizerSpec
from mmpt.training.tokenizers import train_tokenizer


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    spec = load_config(arguments.spec, TokenizerSpec, arguments.overrides).root
    with world() as ranks:
        stopped = train_tokenizer(spec, arguments.out, ranks)
    sys.exit(128 + stopped if stopped else 0)


if __name__ == "__main__":
    main()
