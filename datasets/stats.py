"""What is in shard sets: documents, sizes, durations, and token lengths, one table for each set.

    python datasets/stats.py FOLDER [FOLDER ...]

The figures of a token set come from its indices alone; a document set is read once, nothing is decoded.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mmpt.data.shards.manifest import read_manifest
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.document import Image, Speech, Text
from mmpt.scripts import main_guard
from mmpt.vocabulary import MODALITIES


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a set of document or token shards")
    for folder in parser.parse_args().folders:
        manifest = read_manifest(folder)
        rows = {"documents": document_rows, "tokens": token_rows}[manifest["kind"]](folder)
        size = sum(shard["bytes"] for shard in manifest["shards"])
        table = Table(title=str(folder), show_header=False)
        for name, value in [
            ("kind", manifest["kind"]),
            ("shards", f"{len(manifest['shards']):,}"),
            ("size", megabytes(size)),
            *rows,
        ]:
            table.add_row(name, value)
        Console().print(table)


def document_rows(folder: Path) -> list[tuple[str, str]]:
    """Counts of a document set; durations in hours, picture sides in pixels, text in characters."""
    shards = DocumentShards(folder)
    sources: dict[str, int] = {}
    texts, sides, image_bytes, durations, speech_bytes = [], [], 0, [], 0
    for document in shards:
        sources[document.source] = sources.get(document.source, 0) + 1
        for part in document.parts:
            if isinstance(part, Text):
                texts.append(len(part.text))
            elif isinstance(part, Image):
                sides += [part.width, part.height]
                image_bytes += len(part.data)
            elif isinstance(part, Speech):
                durations.append(part.duration)
                speech_bytes += len(part.data)
    return [
        ("documents", f"{len(shards):,}"),
        *((f"documents of {source}", f"{count:,}") for source, count in sorted(sources.items())),
        ("text parts", f"{len(texts):,}, {sum(texts):,} characters"),
        ("characters of a text", quantiles(texts)),
        ("pictures", f"{len(sides) // 2:,}, {megabytes(image_bytes)}"),
        ("sides of a picture", quantiles(sides)),
        ("utterances", f"{len(durations):,}, {megabytes(speech_bytes)}, {sum(durations) / 3600:.3f} h"),
        ("seconds of an utterance", quantiles(durations)),
    ]


def token_rows(folder: Path) -> list[tuple[str, str]]:
    """Counts of a token set, in tokens."""
    shards = TokenShards(folder)
    total = max(1, int(shards.lengths.sum()))
    counts = zip(MODALITIES, shards.modality_counts.sum(axis=0).tolist(), strict=True)
    return [
        ("vocabulary", f"{shards.vocabulary.size:,} ids, fingerprint {shards.vocabulary.fingerprint[:12]}"),
        ("documents", f"{len(shards):,}"),
        ("tokens", f"{shards.lengths.sum():,}"),
        *((f"{name} tokens", f"{count:,} ({100 * count / total:.1f} %)") for name, count in counts),
        ("tokens of a document", quantiles(shards.lengths)),
    ]


def quantiles(values: Iterable[float]) -> str:
    """Minimum, quartiles, 99th percentile and maximum in words."""
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        return "none"
    found = np.quantile(values, [0, 0.25, 0.5, 0.75, 0.99, 1])
    return ", ".join(
        f"{name} {value:,.4g}" for name, value in zip(("min", "25 %", "50 %", "75 %", "99 %", "max"), found, strict=True)
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"


if __name__ == "__main__":
    main()
