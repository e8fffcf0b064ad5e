"""One self-contained HTML page of a training run: its last figures, curves, spikes and settings."""

import html
import json
from pathlib import Path

from mmpt.errors import DataError
from mmpt.evaluation.plots import curves_plot
from mmpt.evaluation.report import figure_tiles, page, plot_cards
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
        f"<h1>{html.escape(run.name)}</h1>",
        f'<p class="quiet">Step {last["step"]}.</p>',
        f'<div class="tiles">{figure_tiles(last, _LAST)}</div>',
        f'<h2>Curves</h2><div class="plots">{plot_cards(plots)}</div>',
        _spikes(run / "spikes.jsonl"),
        _recipe(run / "recipe.yaml"),
    ]
    write_bytes(run / "report.html", page(run.name, body).encode())
    return run / "report.html"


def _spikes(path: Path) -> str:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    if not found:
        return ""
    rows = "".join(f"<tr><td>{spike['step']}</td><td>{html.escape(spike['why'])}</td></tr>" for spike in found)
    return f"<h2>Spikes of the loss</h2><section><table><tr><th>step</th><th></th></tr>{rows}</table></section>"


def _recipe(path: Path) -> str:
    if not path.exists():
        return ""
    return f"<h2>Settings</h2><section><pre>{html.escape(path.read_text(encoding='utf-8'))}</pre></section>"
