"""What is in shard sets: documents, sizes, durations, and token lengths, one table for each set.

    python datasets/stats.py FOLDER [FOLDER ...] [--page PAGE.html]

The figures of a token set come from its indices alone; a document set is read once, nothing is decoded. With --page, the tables
and histograms of all that has a distribution go into one self-contained HTML page.
"""

import io
from collections import Counter
from collections.abc import Iterable

import numpy as np
from rich.console import Console
from rich.table import Table

from mmpt import html
from mmpt.data.shards.manifest import read_manifest
from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.data.store import write_file
from mmpt.document import Image, Speech, Text
from mmpt.scripts import main_guard, script_parser
from mmpt.vocabulary import MODALITIES


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a set of document or token shards, a folder or a URL")
    parser.add_argument("--page", help="write tables and plots to this HTML file")
    arguments = parser.parse_args()
    sections = []
    for folder in arguments.folders:
        manifest = read_manifest(folder)
        rows, values = {"documents": document_rows, "tokens": token_rows}[manifest.kind](folder)
        rows = [
            ("kind", manifest.kind),
            ("shards", f"{len(manifest.shards):,}"),
            ("size", megabytes(manifest.bytes)),
            *rows,
            *((f"lost: {rule}", f"{count:,}") for rule, count in manifest.lost.items()),
        ]
        table = Table(title=folder, show_header=False)
        for name, value in rows:
            table.add_row(name, value)
        Console().print(table)
        sections.append(section(folder, rows, values))
    if arguments.page:
        write_file(arguments.page, html.page("Statistics of shards", sections).encode())
        print(arguments.page)


def section(title: str, rows: list[tuple[str, str]], values: dict[str, list[float]]) -> html.Html:
    """A set's table, and a histogram of each of `values` that has any."""
    drawn = html.plots(histogram(name, found) for name, found in values.items() if len(found))
    return html.join([html.heading(title), html.card(html.table(rows)), drawn])


def histogram(name: str, values: list[float]) -> bytes:
    """An SVG of the distribution, on a logarithmic axis where the largest is far from the smallest."""
    from matplotlib.figure import Figure

    found = np.asarray(values, dtype=np.float64)
    wide = found.min() > 0 and found.max() > 50 * found.min()
    bins = np.geomspace(found.min(), found.max(), 40) if wide else 40
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(found, bins=bins, color="#2257c4")
    axes.set(xlabel=name, ylabel="count", xscale="log" if wide else "linear")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def document_rows(folder: str) -> tuple[list[tuple[str, str]], dict[str, list[float]]]:
    """(rows of the table, values with a distribution) of a document set; sides in pixels, text in characters."""
    counts = {"source": Counter(), "language": Counter(), "license": Counter()}
    texts, widths, heights, image_bytes, durations, speech_bytes, count = [], [], [], 0, [], 0, 0
    for document in DocumentShards(folder):
        count += 1
        counts["source"][document.source] += 1
        for name in ("language", "license"):
            counts[name][str(document.meta.get(name) or "not said")] += 1
        for part in document.parts:
            if isinstance(part, Text):
                texts.append(len(part.text))
            elif isinstance(part, Image):
                widths.append(part.width)
                heights.append(part.height)
                image_bytes += len(part.data)
            elif isinstance(part, Speech):
                durations.append(part.duration)
                speech_bytes += len(part.data)
    aspects = (np.array(widths) / np.array(heights)).tolist() if widths else []
    rows = [
        ("documents", f"{count:,}"),
        *((f"{name}: {value}", f"{n:,}") for name, found in counts.items() for value, n in found.most_common(12)),
        ("text parts", f"{len(texts):,}, {sum(texts):,} characters"),
        ("characters of a text", quantiles(texts)),
        ("pictures", f"{len(widths):,}, {megabytes(image_bytes)}"),
        ("width of a picture", quantiles(widths)),
        ("height of a picture", quantiles(heights)),
        ("width / height", quantiles(aspects)),
        ("utterances", f"{len(durations):,}, {megabytes(speech_bytes)}, {sum(durations) / 3600:.3f} h"),
        ("seconds of an utterance", quantiles(durations)),
    ]
    values = {
        "characters of a text": texts,
        "width of a picture": widths,
        "width / height": aspects,
        "seconds of an utterance": durations,
    }
    return rows, values


def token_rows(folder: str) -> tuple[list[tuple[str, str]], dict[str, list[float]]]:
    """(rows of the table, values with a distribution) of a token set, in tokens."""
    shards = TokenShards(folder)
    total = max(1, int(shards.lengths.sum()))
    counts = zip(MODALITIES, shards.modality_counts.sum(axis=0).tolist(), strict=True)
    rows = [
        ("vocabulary", f"{shards.vocabulary.size:,} ids, fingerprint {shards.vocabulary.fingerprint[:12]}"),
        ("documents", f"{len(shards):,}"),
        ("tokens", f"{shards.lengths.sum():,}"),
        *((f"{name} tokens", f"{count:,} ({100 * count / total:.1f} %)") for name, count in counts),
        ("tokens of a document", quantiles(shards.lengths)),
    ]
    return rows, {"tokens of a document": shards.lengths.tolist()}


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
