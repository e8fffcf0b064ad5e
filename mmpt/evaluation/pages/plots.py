"""Curves and histograms as SVG, spectrograms as PNG."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

# What the trainings log, and which of it is worth a curve: key → label.
_CURVES = {
    "nll.text": "text",
    "nll.image": "picture codes",
    "nll.speech": "speech codes",
    "reading": "transcript (cross-entropy)",
    "ctc": "transcript (CTC)",
    "mel": "mel",
    "flow": "flow matching",
    "codes": "speech codes",
    "distance": "spectra",
    "pixels": "pixels",
    "contrast": "picture and text",
    "describe": "caption read from the codes",
    "restore": "states given back (1 − cosine)",
    "embed": "embedding predicted",
    "quantizer": "quantiser",
}


def training_plot(metrics: Path, title: str) -> bytes:
    """Loss curves over steps from a JSON lines file, on a logarithmic axis."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines() if line]
    return curves_plot(lines, _CURVES, title, logarithmic=True)


def curves_plot(lines: Sequence[dict], curves: dict[str, str], title: str, logarithmic: bool) -> bytes:
    """Of logged lines, each with its `step`, those of the `curves` (key, "a.b" for one in a mapping → label) that they have."""
    flat = [_flat(line) for line in lines]
    figure, axes = _axes(title)
    for key, label in curves.items():
        points = [(line["step"], line[key]) for line in flat if key in line and (line[key] > 0 or not logarithmic)]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1.6, marker="." if len(points) == 1 else None)
    if logarithmic:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    if axes.lines:
        axes.legend(frameon=False)
    return _svg(figure)


def _flat(line: dict) -> dict[str, float]:
    """{"nll": {"text": 1.0}} → {"nll.text": 1.0}."""
    nested = {f"{key}.{name}": number for key, value in line.items() if isinstance(value, dict) for name, number in value.items()}
    return {**line, **nested}


def codebook_plot(counts: list[int], title: str) -> bytes:
    """How often each code was used, most used first; the share of codes used at all in the title."""
    used = sum(count > 0 for count in counts)
    figure, axes = _axes(f"{title}: {used} of {len(counts)}")
    axes.bar(range(len(counts)), sorted(counts, reverse=True), width=1.0, color="#3d6fb4")
    axes.set_xlabel("code")
    axes.set_ylabel("times used")
    return _svg(figure)


def spectrogram_plot(mels: Sequence[np.ndarray], titles: Sequence[str]) -> bytes:
    """Log-mels [frames, bands] at 100 Hz one above the other, on one scale of colours."""
    figure = Figure(figsize=(6.4, 1.5 * len(mels)), layout="constrained")
    panels = figure.subplots(len(mels), 1, sharex=True, squeeze=False)[:, 0]
    low, high = min(mel.min() for mel in mels), max(mel.max() for mel in mels)
    for axes, mel, title in zip(panels, mels, titles, strict=True):
        axes.imshow(mel.T, origin="lower", aspect="auto", vmin=low, vmax=high, extent=(0, len(mel) / 100, 0, mel.shape[1]))
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yticks([])
    panels[-1].set_xlabel("seconds")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def interval_plot(bars: Sequence[tuple[str, float, float, float]], title: str) -> bytes:
    """(label, value, low, high) of figures, a line each."""
    figure, axes = _axes(title)
    figure.set_size_inches(6.4, 1.0 + 0.32 * len(bars))
    for place, (_, value, low, high) in enumerate(reversed(bars)):
        axes.plot([low, high], [place, place], color="#9db4d6", linewidth=5, solid_capstyle="round")
        axes.plot([value], [place], "o", color="#2459b3")
    axes.set_yticks(range(len(bars)), [label for label, *_ in reversed(bars)])
    axes.set_ylim(-0.6, len(bars) - 0.4)
    return _svg(figure)


def _axes(title: str):
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()
