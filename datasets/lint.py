"""Check shard sets to the last byte: hashes, schema, whole samples, pictures and audio that decode, unique ids.

    python datasets/lint.py FOLDER [FOLDER ...]

Prints one line for each problem. Exit code 0: none; 1: some; 2: a folder holds no shard set.
"""

import sys

from mmpt.data.shards.lint import lint
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a set of document or token shards, a folder or a URL")
    found = 0
    for folder in parser.parse_args().folders:
        problems = lint(folder)
        for problem in problems:
            sample = f"sample {problem.key}: " if problem.key else ""
            print(f"{folder.rstrip('/')}/{problem.shard}: {sample}{problem.reason}")
        print(f"{folder}: {len(problems)} problem{'' if len(problems) == 1 else 's'}")
        found += len(problems)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
