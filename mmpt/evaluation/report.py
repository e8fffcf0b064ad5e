"""One self-contained HTML page of a run: figures, curves, codebooks, what was asked and what came out."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.evaluation.plots import codebook_plot, training_plot
from mmpt.storage import read_json, write_bytes

_FIGURES = (  # name in metrics.json, what it is, bar, whether more is better
    ("speech_to_text_wer", "speech → text: word error rate", False),
    ("text_to_speech_wer", "text → speech: word error rate, read back from the sound", False),
    ("image_to_text_accuracy", "picture → text: everything right", True),
    ("text_to_image_accuracy", "text → picture: everything right, read back from the pixels", True),
    ("speech_codebook_used", "speech codes in use", True),
    ("image_codebook_used", "picture codes in use", True),
    ("speech_tokenizer_wer", "speech tokenizer alone: word error rate of its codes", False),
    ("speech_reconstruction_wer", "speech tokenizer alone: word error rate of the decoded sound", False),
    ("image_reconstruction_accuracy", "image tokenizer alone: decoded picture shows everything", True),
)
_TASKS = {
    "speech_to_text": "Speech to text",
    "text_to_speech": "Text to speech",
    "image_to_text": "Picture to text",
    "text_to_image": "Text to picture",
}
_SHOWN_RIGHT, _SHOWN_WRONG = 4, 4
_STYLE = """
:root { color-scheme: light; --line: #dfe3e8; --quiet: #5b6570; --good: #1a7f4b; --bad: #b3372c; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2127; background: #f6f7f9; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 12px; }
p.quiet, .quiet { color: var(--quiet); }
section, .card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; margin: 20px 0; }
.tile b { display: block; font-size: 26px; }
.tile { font-size: 14px; color: var(--quiet); } .tile b { color: #1c2127; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px; }
.plots img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { text-align: left; font-weight: 600; font-size: 14px; color: var(--quiet); }
td, th { padding: 8px 10px 8px 0; border-top: 1px solid var(--line); vertical-align: middle; overflow-wrap: anywhere; }
td audio { width: 100%; max-width: 260px; height: 36px; display: block; }
td img, .pairs img { width: 96px; height: 96px; border: 1px solid var(--line); border-radius: 4px; image-rendering: pixelated; }
td img { vertical-align: middle; }
.mark { width: 70px; } .right { color: var(--good); font-weight: 600; } .wrong { color: var(--bad); font-weight: 600; }
.pairs { display: flex; flex-wrap: wrap; gap: 16px; } .pairs figure { margin: 0; }
.sound { margin: 0 0 16px; } .sound img { width: 100%; height: auto; } .sound audio { width: 48%; margin-right: 2%; }
figcaption { font-size: 12px; color: var(--quiet); }
details { margin: 12px 0; } summary { cursor: pointer; } .plots { margin-top: 12px; }
"""


def write_report(run: Path, metrics: dict) -> Path:
    """Write `run`/report.html from the files that the stages left in `run`; returns its path."""
    answers = list(DocumentShards(run / "evaluation" / "answers"))
    reconstructions = list(DocumentShards(run / "evaluation" / "reconstructions"))
    counts = read_json(run / "evaluation" / "codes.json")
    body = [
        f"<h1>{html.escape(run.name)}</h1>",
        f'<p class="quiet">{metrics["seconds"] / 60:.1f} minutes, at most {metrics["peak_rss_gib"]:.1f} GiB of memory. '
        "All figures and examples are on held-out data.</p>",
        _tiles(metrics),
        "<h2>Training</h2>",
        '<div class="plots">',
        *(_plot(training_plot(run / folder / "metrics.jsonl", title)) for folder, title in _trainings(run)),
        "</div>",
        "<h2>Codebooks</h2>",
        '<div class="plots">',
        *(_plot(codebook_plot(counts[name], f"{name} codes, most used first")) for name in ("speech", "image")),
        "</div>",
        "<h2>The tokenizers alone: what goes in, what their codes decode to</h2>",
        _reconstructions(reconstructions),
        *(f"<h2>{title}</h2>{_examples(task, answers)}" for task, title in _TASKS.items()),
        "<h2>Time</h2>",
        _times(metrics["stages"]),
    ]
    write_bytes(run / "report.html", page(run.name, body).encode())
    return run / "report.html"


def page(title: str, body: Sequence[str]) -> str:
    """A page of pieces of HTML that loads nothing from elsewhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _trainings(run: Path) -> list[tuple[str, str]]:
    named = [("speech_tokenizer/recognition", "speech tokenizer"), ("image_tokenizer/joint", "image tokenizer")]
    named += [("pretrain", "pretraining: loss by modality"), ("finetune", "finetuning (LoRA): loss by modality")]
    return [(folder, title) for folder, title in named if (run / folder / "metrics.jsonl").exists()]


def _tiles(metrics: dict) -> str:
    tiles = []
    for name, meaning, more in _FIGURES:
        value = f"{metrics[name]:.3f}" if not more else f"{100 * metrics[name]:.1f} %"
        tiles.append(f'<div class="card tile"><b>{value}</b>{html.escape(meaning)}</div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _plot(svg: bytes) -> str:
    return f'<div class="card"><img alt="" src="{data_uri("image/svg+xml", svg)}"></div>'


def data_uri(media_type: str, data: bytes) -> str:
    """`data` as a URI that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def figure_tiles(figures: Mapping[str, float], meanings: Mapping[str, str]) -> str:
    """A tile for each of the `figures` that has a meaning, in the order of the meanings."""
    known = [(figures[name], meaning) for name, meaning in meanings.items() if name in figures]
    shown = [(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}", meaning) for value, meaning in known]
    return "".join(f'<div class="card tile"><b>{value}</b>{html.escape(meaning)}</div>' for value, meaning in shown)


def plot_cards(plots: Sequence[bytes]) -> str:
    """SVG plots as cards."""
    return "".join(f'<div class="card"><img alt="" src="{data_uri("image/svg+xml", plot)}"></div>' for plot in plots)


def part_html(part: Part) -> str:
    """A part as a reader sees or hears it."""
    if isinstance(part, Text):
        return html.escape(part.text)
    if isinstance(part, Image):
        return f'<img alt="" src="{data_uri(f"image/{part.suffix}", part.data)}">'
    return f'<audio controls preload="metadata" src="{data_uri(f"audio/{part.suffix}", part.data)}"></audio>'


def _reconstructions(documents: list[Document]) -> str:
    pictures = [
        f"<figure>{' '.join(map(part_html, document.parts[:2]))}<figcaption>original, decoded</figcaption></figure>"
        for document in documents
        if document.meta["kind"] == "image"
    ]
    sounds = [
        (html.escape(document.parts[0].text), *map(part_html, document.parts[:2]))
        for document in documents
        if isinstance(document.parts[0], Speech)
    ]
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in sounds)
    table = f"<table><tr><th>said</th><th>original</th><th>decoded</th></tr>{rows}</table>"
    return f'<section><div class="pairs">{"".join(pictures)}</div><br>{table}</section>'


def _examples(task: str, answers: list[Document]) -> str:
    mine = [document for document in answers if document.meta["task"] == task]
    wrong = [document for document in mine if not document.meta["right"]]
    right = [document for document in mine if document.meta["right"]]
    rows = []
    for document in [*right[:_SHOWN_RIGHT], *wrong[:_SHOWN_WRONG]]:
        asked, answered = document.parts[: document.meta["asked"]], document.parts[document.meta["asked"] :]
        mark = '<td class="right">right</td>' if document.meta["right"] else '<td class="wrong">wrong</td>'
        cells = (" ".join(map(part_html, asked)), " ".join(map(part_html, answered)) or "—", html.escape(_compared(document)))
        rows.append(f"<tr>{mark}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = (
        f'<p class="quiet">{len(right)} of {len(mine)} without any mistake. Shown: the first right and the first wrong ones.</p>'
    )
    columns = '<tr><th class="mark"></th><th>asked</th><th>answered</th><th>expected / read back</th></tr>'
    return f"<section>{head}<table>{columns}{''.join(rows)}</table></section>"


def _compared(document: Document) -> str:
    expected, read = document.meta["expected"], document.meta["read"]
    return expected if document.meta["right"] and expected == read else f"{expected} / {read or 'nothing'}"


def _times(stages: dict[str, float]) -> str:
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{seconds:.0f} s</td></tr>" for name, seconds in stages.items())
    return f"<section><table>{rows}</table></section>"
