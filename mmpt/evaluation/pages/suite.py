"""One page on the results of one or several models: figures with their intervals beside each other, examples, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpt import html
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document
from mmpt.evaluation.pages.plots import codebook_plot, interval_plot
from mmpt.evaluation.suite import read_results
from mmpt.storage import write_bytes

SHOWN = 12
"""Examples of each benchmark and model, from the worst on."""
BEST = 3
"""Of these, the best."""


@dataclass(frozen=True)
class _Found:
    """What a benchmark gave for a model, and the folder of its suite."""

    model: str
    folder: Path
    result: dict[str, Any]

    def measure(self, name: str) -> dict[str, Any] | None:
        return next((one for one in self.result["measures"] if one["name"] == name), None)


def write_page(folders: Sequence[Path], path: Path) -> Path:
    """Write `path` on the results in `folders`, which `run_suite` wrote. Raises `DataError` where one holds none."""
    runs = [(Path(folder), read_results(Path(folder))) for folder in folders]
    found = [_Found(run["model"], folder, one) for folder, run in runs for one in run["results"]]
    body: list[html.Html] = []
    for name in dict.fromkeys(one.result["name"] for one in found):
        own = [one for one in found if one.result["name"] == name]
        body += [html.heading(name), *_benchmark(name, own), *map(_examples, own)]
    failed = [f"{run['model']}: {problem}" for _, run in runs for problem in run["failed"]]
    failed += [f"{run['model']}: the suite was not finished" for _, run in runs if run["finished"] is None]
    if failed:
        body += [html.heading("Not run"), html.card(html.bullets(failed))]
    lead = f"{', '.join(run['model'] for _, run in runs)}. Intervals hold 95 % of 2,000 bootstrap samples of the items."
    write_bytes(path, html.page("Evaluation", body, lead).encode())
    return path


def _benchmark(name: str, found: Sequence[_Found]) -> list[html.Html]:
    rows, bars = [], []
    for measure in dict.fromkeys(measure["name"] for one in found for measure in one.result["measures"]):
        cells, better = [], "more"
        for one in found:
            own = one.measure(measure)
            cells.append(html.Html("") if own is None else _value(own))
            if own is not None:
                better = own["better"]
                label = measure if len(found) == 1 else f"{measure}, {one.model}"
                bars.append((label, own["value"], own["low"], own["high"]))
        rows.append([f"{measure} ({better} is better)", *cells])
    counts = "; ".join(f"{one.model}: {one.result['items']} items, {len(one.result['missing'])} missing" for one in found)
    versions = sorted({one.result["version"] for one in found})
    said = f"{found[0].result['method']}. {counts}. Version {', '.join(map(str, versions))} of {found[0].result['kind']}."
    if len(versions) > 1:
        said += " Figures of different versions do not compare."
    missing = [f"{one.model}: {reason}" for one in found for reason in one.result["missing"][:10]]
    lost = [html.details("missing", html.bullets(missing))] if missing else []
    codebooks = [
        codebook_plot(one.result["counts"], f"codes, most used first, {one.model}") for one in found if one.result["counts"]
    ]
    return [
        html.card(html.table(rows, ["", *(one.model for one in found)]), html.quiet(said), *lost),
        html.plots([interval_plot(bars, name), *codebooks]),
    ]


def _value(measure: dict[str, Any]) -> html.Html:
    return html.join([html.tag("b", f"{measure['value']:.4g}"), html.escape(f" {measure['low']:.4g} … {measure['high']:.4g}")])


def _examples(found: _Found) -> html.Html:
    documents = DocumentShards(found.folder / found.result["examples"])
    own = sorted(documents, key=lambda one: one.meta["score"])
    if not own:
        return html.Html("")
    shown = own if len(own) <= SHOWN else [*own[: SHOWN - BEST], *own[-BEST:]]
    columns = ("asked", "answered", "expected", "found", "score")
    title = f"{found.model}: the worst first, then the best of {len(own)}"
    return html.details(title, html.card(html.table([_row(one) for one in shown], columns)))


def _row(document: Document) -> list[object]:
    asked, answered = document.parts[: document.meta["asked"]], document.parts[document.meta["asked"] :]
    return [
        html.parts(asked),
        html.parts(answered),
        document.meta["expected"],
        document.meta["found"] or "—",
        f"{document.meta['score']:.3g}",
    ]
