"""One self-contained HTML page of a run: figures, curves, codebooks, what was asked and what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpt import html
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document
from mmpt.evaluation.pages.plots import codebook_plot, training_plot
from mmpt.evaluation.suite import read_results
from mmpt.storage import write_bytes

_FIGURES = (  # name in metrics.json, what it is, whether it is a share that should be large
    ("speech_to_text_wer", "speech → text: word error rate", False),
    ("text_to_speech_wer", "text → speech: word error rate, read back from the sound", False),
    ("image_to_text_accuracy", "image → text: everything right", True),
    ("text_to_image_accuracy", "text → image: everything right, read back from the pixels", True),
    ("speech_codebook_used", "speech codes in use", True),
    ("image_codebook_used", "image codes in use", True),
    ("speech_tokenizer_wer", "speech tokenizer alone: word error rate of its codes", False),
    ("speech_reconstruction_wer", "speech tokenizer alone: word error rate of the decoded sound", False),
    ("image_reconstruction_accuracy", "image tokenizer alone: decoded image shows everything", True),
)
_SHOWN_RIGHT, _SHOWN_WRONG = 4, 4
_RECONSTRUCTIONS = {"speech_tokenizer": 6, "image_tokenizer": 12}
"""Shown of each of these benchmarks."""


def write_report(run: Path, metrics: Mapping[str, Any]) -> Path:
    """Write `run`/report.html from the files that the stages left in `run`; returns its path.

    `metrics`: the figures by name, `seconds` and `peak_rss_gib` of the run, and the seconds of each of its `stages`.
    """
    folder = run / "evaluation"
    results = read_results(folder)["results"]
    tokenizers = [one for one in results if one["kind"] in _RECONSTRUCTIONS]
    body = [
        html.tiles((_shown(metrics[name], share), meaning) for name, meaning, share in _FIGURES if name in metrics),
        html.heading("Training"),
        html.plots(training_plot(run / name / "metrics.jsonl", title) for name, title in _trainings(run)),
        html.heading("Codebooks"),
        html.plots(codebook_plot(one["counts"], f"{one['name']} codes, most used first") for one in tokenizers),
        html.heading("The tokenizers alone: what goes in, what their codes decode to"),
        *(_reconstructions(one, _documents(folder, one)) for one in tokenizers),
    ]
    for one in results:
        if one not in tokenizers:
            body += [html.heading(one["name"].replace("_", " ").capitalize()), _examples(_documents(folder, one))]
    times = [(name, f"{seconds:.0f} s") for name, seconds in metrics["stages"].items()]
    body += [html.heading("Time"), html.card(html.table(times))]
    lead = (
        f"{metrics['seconds'] / 60:.1f} minutes, at most {metrics['peak_rss_gib']:.1f} GiB of memory. "
        "All figures and examples are on held-out data."
    )
    write_bytes(run / "report.html", html.page(run.name, body, lead).encode())
    return run / "report.html"


def _shown(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"


def _trainings(run: Path) -> list[tuple[str, str]]:
    named = [("speech_tokenizer/recognition", "speech tokenizer"), ("image_tokenizer/joint", "image tokenizer")]
    named += [("pretrain", "pretraining: loss by modality"), ("finetune", "finetuning (LoRA): loss by modality")]
    return [(folder, title) for folder, title in named if (run / folder / "metrics.jsonl").exists()]


def _documents(folder: Path, result: dict[str, Any]) -> list[Document]:
    return list(DocumentShards(folder / result["examples"]))


def _reconstructions(result: dict[str, Any], documents: Sequence[Document]) -> html.Html:
    shown = documents[: _RECONSTRUCTIONS[result["kind"]]]
    if result["kind"] == "speech_tokenizer":
        rows = [(one.meta["expected"], *map(html.part, one.parts[:2])) for one in shown]
        return html.card(html.table(rows, ("said", "original", "decoded")))
    caption = html.tag("figcaption", "original, decoded", class_="quiet")
    return html.card(html.tag("div", *(html.tag("figure", html.parts(one.parts[:2]), caption) for one in shown), class_="row"))


def _examples(documents: Sequence[Document]) -> html.Html:
    wrong = [document for document in documents if document.meta["score"] != 1]
    right = [document for document in documents if document.meta["score"] == 1]
    head = f"{len(right)} of {len(documents)} without any mistake. Shown: the first right and the first wrong ones."
    rows = [_row(document) for document in [*right[:_SHOWN_RIGHT], *wrong[:_SHOWN_WRONG]]]
    return html.card(html.quiet(head), html.table(rows, ("", "asked", "answered", "expected / read back")))


def _row(document: Document) -> list[object]:
    asked, answered = document.parts[: document.meta["asked"]], document.parts[document.meta["asked"] :]
    expected, found, right = document.meta["expected"], document.meta["found"], document.meta["score"] == 1
    compared = expected if right and expected == found else f"{expected} / {found or 'nothing'}"
    return [html.verdict(right), html.parts(asked), html.parts(answered), compared]
