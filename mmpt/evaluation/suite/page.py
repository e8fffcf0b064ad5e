"""One page on the results of one or several models: figures with their intervals beside each other, examples, the worst first."""

import html
from collections.abc import Sequence
from pathlib import Path

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document
from mmpt.errors import DataError
from mmpt.evaluation.plots import interval_plot
from mmpt.evaluation.report import page, part_html, plot_cards
from mmpt.evaluation.suite.run import FORMAT
from mmpt.storage import read_json, write_bytes

SHOWN = 12
"""Examples of each benchmark and model, from the worst on."""


def write_page(folders: Sequence[Path], path: Path) -> Path:
    """Write `path` on the results in `folders`, which `run_suite` wrote. Raises `DataError` where one holds none."""
    runs = [_results(Path(folder)) for folder in folders]
    names = list(dict.fromkeys(one["name"] for run in runs for one in run["results"]))
    body = [
        "<h1>Evaluation</h1>",
        f'<p class="quiet">{html.escape(", ".join(run["model"] for run in runs))}. '
        "Intervals hold 95 % of 2,000 bootstrap samples of the items.</p>",
    ]
    for name in names:
        body.append(f"<h2>{html.escape(name)}</h2>{_benchmark(name, runs)}")
        body += [
            _examples(run["model"], list(DocumentShards(Path(folder) / one["examples"])))
            for run, folder in zip(runs, folders, strict=True)
            for one in run["results"]
            if one["name"] == name
        ]
    failed = [f"{run['model']}: {problem}" for run in runs for problem in run["failed"]]
    failed += [f"{run['model']}: the suite was not finished" for run in runs if run["finished"] is None]
    if failed:
        body.append(f"<h2>Not run</h2><section><ul>{''.join(f'<li>{html.escape(one)}</li>' for one in failed)}</ul></section>")
    write_bytes(path, page("Evaluation", body).encode())
    return path


def _results(folder: Path) -> dict:
    content = read_json(folder / "results.json")
    if content.get("format") != FORMAT:
        raise DataError(f"{folder}/results.json: format is {content.get('format')!r}, expected {FORMAT!r}")
    return content


def _benchmark(name: str, runs: Sequence[dict]) -> str:
    found = [(run["model"], one) for run in runs for one in run["results"] if one["name"] == name]
    measures = list(dict.fromkeys(measure["name"] for _, one in found for measure in one["measures"]))
    head = "".join(f"<th>{html.escape(model)}</th>" for model, _ in found)
    rows, bars = [], []
    for measure in measures:
        cells = []
        for model, one in found:
            own = next((value for value in one["measures"] if value["name"] == measure), None)
            cells.append(
                "<td></td>" if own is None else f"<td><b>{own['value']:.4g}</b> {own['low']:.4g} … {own['high']:.4g}</td>"
            )
            if own is not None:
                label = measure if len(found) == 1 else f"{measure}, {model}"
                bars.append((label, own["value"], own["low"], own["high"]))
        better = next(own["better"] for _, one in found for own in one["measures"] if own["name"] == measure)
        rows.append(f"<tr><td>{html.escape(measure)} ({better} is better)</td>{''.join(cells)}</tr>")
    counts = "; ".join(f"{model}: {one['items']} items, {len(one['missing'])} missing" for model, one in found)
    missing = [f"{model}: {reason}" for model, one in found for reason in one["missing"][:10]]
    lost = f"<details><summary>missing</summary><ul>{''.join(f'<li>{html.escape(one)}</li>' for one in missing)}</ul></details>"
    return (
        f"<section><table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
        f'<p class="quiet">{html.escape(found[0][1]["method"])}. {html.escape(counts)}.</p>{lost if missing else ""}</section>'
        f'<div class="plots">{plot_cards([interval_plot(bars, name)])}</div>'
    )


def _examples(model: str, documents: Sequence[Document]) -> str:
    own = sorted(documents, key=lambda one: one.meta["score"])
    if not own:
        return ""
    shown = own[:SHOWN] if len(own) <= SHOWN else [*own[: SHOWN - 3], *own[-3:]]
    columns = "<tr><th>asked</th><th>answered</th><th>expected</th><th>found</th><th>score</th></tr>"
    rows = "".join(map(_row, shown))
    title = f"{html.escape(model)}: the worst first, then the best of {len(own)}"
    return f'<details><summary>{title}</summary><section class="examples"><table>{columns}{rows}</table></section></details>'


def _row(document: Document) -> str:
    asked, answered = document.parts[: document.meta["asked"]], document.parts[document.meta["asked"] :]
    cells = [" ".join(map(part_html, asked)) or "—", " ".join(map(part_html, answered)) or "—"]
    cells += [html.escape(document.meta["expected"]), html.escape(document.meta["found"]) or "—", f"{document.meta['score']:.3g}"]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
