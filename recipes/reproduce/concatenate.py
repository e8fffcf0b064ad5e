"""Token shards as rows in which documents follow each other and see each other: python recipes/reproduce/concatenate.py IN OUT

Each document of OUT is as many whole documents of IN as `--tokens` takes, in their order: what a packed row is without masks.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.scripts import main_guard


def rows(documents: Iterable[TokenDocument], tokens: int) -> Iterator[TokenDocument]:
    """Documents of at most `tokens` tokens where no single one is longer."""
    number, ids, weights = 0, [], []
    for one in documents:
        if ids and sum(map(len, ids)) + len(one.ids) > tokens:
            yield _row(number, ids, weights)
            number, ids, weights = number + 1, [], []
        ids.append(one.ids)
        weights.append(np.ones(len(one.ids), dtype=np.float32) if one.weights is None else one.weights)
    if ids:
        yield _row(number, ids, weights)


def _row(number: int, ids: list[np.ndarray], weights: list[np.ndarray]) -> TokenDocument:
    # The first token of a document has nothing before it when it is alone, so it is not learned here either.
    learned = np.concatenate([np.concatenate([np.zeros(1, dtype=np.float32), own[1:]]) for own in weights])
    return TokenDocument(f"row {number}", "rows", np.concatenate(ids), learned)


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="IN")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=1024)
    arguments = parser.parse_args()
    shards = TokenShards(arguments.folder)
    with TokenShardWriter(arguments.out, vocabulary=shards.vocabulary, built={"rows of": arguments.folder}) as writer:
        for row in rows(shards, arguments.tokens):
            writer.write(row)


if __name__ == "__main__":
    main()
