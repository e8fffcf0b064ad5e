"""One self-contained HTML page of a training run: its last figures, curves, spikes and settings."""

import json
from pathlib import Path

from mmpt import html
from mmpt.errors import DataError
from mmpt.evaluation.pages.plots import curves_plot
from mmpt.storage import write_bytes

_LAST = {
    "loss": "loss of the last logged step, nats",
    "tokens_per_second": "tokens a second",
    "seconds": "seconds a step",
    "waiting": "share of the time spent waiting for data",
    "fill": "share of the packs that tokens take",
    "memory_gib": "GiB of memory at most, first process",
    "mfu": "MFU: share of the dense bf16 peak, attention counted within documents",
    "tflop_per_second": "TFLOP/s",
    "spikes": "spikes of the loss since the last start",
}
_NAMES = {"text": "text", "special": "special tokens", "image": "picture codes", "speech": "speech codes"}
_PLOTS = (  # title, curves by key, logarithmic
    ("Loss by modality, nats", {f"nll.{name}": label for name, label in _NAMES.items()}, True),
    ("Predicted right, by modality", {f"accuracy.{name}": label for name, label in _NAMES.items()}, False),
    ("Learning rate", {"learning_rate": "learning rate"}, False),
    ("Norm of the gradient before clipping", {"gradient_norm": "norm"}, True),
    (
        "Tokens a second",
        {"tokens_per_second": "read"} | {f"{key}_targets_per_second": name for key, name in _NAMES.items()},
        False,
    ),
    ("Seconds a step", {"seconds": "in all", "data_seconds": "waiting for data"}, False),
)


def write_training_page(run: Path) -> Path:
    """Write `run`/report.html from what the run has logged; returns its path. Raises `DataError` where there is no line yet."""
    log = run / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    if not lines:
        raise DataError(f"{log}: no line yet")
    last = {**lines[-1], "waiting": lines[-1]["data_seconds"] / lines[-1]["seconds"]}
    plots = [curves_plot(lines, curves, title, logarithmic) for title, curves, logarithmic in _PLOTS]
    body = [
        html.figure_tiles(last, _LAST),
        html.heading("Curves"),
        html.plots(plots),
        _spikes(run / "spikes.jsonl"),
        _recipe(run / "recipe.yaml"),
    ]
    write_bytes(run / "report.html", html.page(run.name, body, f"Step {last['step']}.").encode())
    return run / "report.html"


def _spikes(path: Path) -> html.Html:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    if not found:
        return html.Html("")
    rows = [(str(spike["step"]), spike["why"]) for spike in found]
    return html.join([html.heading("Spikes of the loss"), html.card(html.table(rows, ("step", "why")))])


def _recipe(path: Path) -> html.Html:
    if not path.exists():
        return html.Html("")
    return html.join([html.heading("Settings"), html.card(html.tag("pre", path.read_text(encoding="utf-8")))])
