"""One self-contained HTML page of a training run: its last figures, curves, evaluations, samples, spikes and settings."""

import json
from pathlib import Path

from mmpt import html
from mmpt.errors import DataError
from mmpt.evaluation.pages.plots import curves_plot
from mmpt.evaluation.pages.samples import samples_section
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
    lines = _lines(log)
    if not lines:
        raise DataError(f"{log}: no line yet")
    last = {**lines[-1], "waiting": lines[-1]["data_seconds"] / lines[-1]["seconds"]}
    plots = [curves_plot(lines, curves, title, logarithmic) for title, curves, logarithmic in _PLOTS]
    evaluations = _lines(run / "evaluations.jsonl")
    body = [
        html.figure_tiles(last, _LAST),
        *_evaluations(run, evaluations),
        samples_section(run),
        html.heading("Curves"),
        html.plots(plots),
        _spikes(run / "spikes.jsonl"),
        _recipe(run / "recipe.yaml"),
    ]
    write_bytes(run / "report.html", html.page(run.name, body, f"Step {last['step']}.").encode())
    return run / "report.html"


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _evaluations(run: Path, lines: list[dict]) -> list[html.Html]:
    """Curves of what is held out, of all by modality and by source, and of each figure of the suite; all figures of the last and
    of the best evaluation."""
    if not lines:
        return []
    held_out = [name for line in lines for name in line.get("held_out", {})]
    of_all = {f"held_out.{name}": _label(name.partition("/")[2]) for name in held_out if name.split("/")[0] == "loss"}
    by_source = {f"held_out.{name}": name for name in held_out if "/" not in name and name != "loss"}
    plots = [
        curves_plot(lines, curves, title, logarithmic=True)
        for title, curves in (("Held-out loss by modality, nats", of_all), ("Held-out loss by source, nats", by_source))
        if curves
    ]
    suite = dict.fromkeys(name for line in lines for name in line.get("suite", {}))
    plots += [curves_plot(lines, {f"suite.{name}": name}, name.replace("_", " "), logarithmic=False) for name in suite]
    best = (run / "best").resolve().name.removeprefix("step-") if (run / "best").is_dir() else ""
    chosen = dict.fromkeys([*(line["step"] for line in lines if best and line["step"] == int(best)), lines[-1]["step"]])
    shown = {step: _figures(next(line for line in lines if line["step"] == step)) for step in chosen}
    names = dict.fromkeys(name for figures in shown.values() for name in figures)
    rows = [[name, *(f"{figures[name]:.4g}" if name in figures else "" for figures in shown.values())] for name in names]
    columns = ["", *(f"step {step}{', the best' if best and step == int(best) else ''}" for step in shown)]
    return [html.heading("Evaluations"), html.plots(plots), html.details("Figures", html.card(html.table(rows, columns)))]


def _figures(line: dict) -> dict[str, float]:
    """{"held_out": {"loss": 1.0}} → {"held out loss": 1.0}."""
    groups = {of.replace("_", " "): values for of, values in line.items() if isinstance(values, dict)}
    return {f"{of} {name}": value for of, values in groups.items() for name, value in values.items()}


def _label(modality: str) -> str:
    return _NAMES.get(modality, "all")


def _spikes(path: Path) -> html.Html:
    found = _lines(path)
    if not found:
        return html.Html("")
    rows = [(str(spike["step"]), spike["why"]) for spike in found]
    return html.join([html.heading("Spikes of the loss"), html.card(html.table(rows, ("step", "why")))])


def _recipe(path: Path) -> html.Html:
    if not path.exists():
        return html.Html("")
    return html.join([html.heading("Settings"), html.card(html.tag("pre", path.read_text(encoding="utf-8")))])
