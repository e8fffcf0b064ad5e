"""Encode document shards with the three tokenizers: python datasets/to_tokens.py SPEC.yaml SHARDS OUT

(Not `tokenize.py`: a script's own folder comes first on the import path, and that name is the standard library's.)
"""

import argparse
from pathlib import Path

from mmpt.config import load_config
from mmpt.data.to_tokens import ToTokensConfig, write_tokens
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description="Encode document shards with the three tokenizers.")
    parser.add_argument("spec", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.spec, ToTokensConfig, arguments.overrides)
    with progress_bars() as progress:
        count = write_tokens(config, [arguments.shards], arguments.out, progress, f"encoding {arguments.shards}")
    print(f"{arguments.out}: {count} sequences")


if __name__ == "__main__":
    main()
