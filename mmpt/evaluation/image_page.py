"""One self-contained HTML page of an image tokenizer: figures, codebook, and pictures drawn from ever more of their codes."""

import html
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image as Picture
from mmpt.errors import DataError
from mmpt.evaluation.image_tokenizer import ImageEvaluation, evaluate_image_tokenizer
from mmpt.evaluation.plots import codebook_plot, training_plot
from mmpt.evaluation.report import data_uri, figure_tiles, page, plot_cards
from mmpt.media import decode_image, encode_png
from mmpt.storage import write_bytes
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

SHOWN, NEIGHBOURS = 12, 4
STAGES = ("joint", "align", "quantize", "draw", "harden")
_MEANING = {
    "codes_used": "share of the codes in use",
    "entropy": "entropy of the codes ÷ that of even use",
    "embeddings, R@mean": "R@mean of embeddings",
    "codes, R@mean": "R@mean of codes",
    "read": "drawn pictures that read as their captions",
    "bits_per_image": "bits a picture",
}


def evaluate_image_run(run: Path, shards: Path, page: Path, limit: int | None = None) -> ImageEvaluation:
    """Measure `run`/tokenizer, or the tokenizer in `run` itself, on the pictures of document shards, and write the page.

    Raises `DataError` where the shards hold no picture.
    """
    tokenizer = ImageTokenizer.load(run / "tokenizer" if (run / "tokenizer").is_dir() else run)
    stream = (part for document in DocumentShards(shards) for part in document.parts if isinstance(part, Picture))
    shown = list(islice(stream, limit))
    if not shown:
        raise DataError(f"{shards}: no picture")
    pictures, captions = [decode_image(part.data) for part in shown], [part.alt for part in shown]
    found = evaluate_image_tokenizer(tokenizer, pictures, captions)
    write_image_page(page, run.name, pictures, captions, found, [run / stage / "metrics.jsonl" for stage in STAGES])
    return found


def write_image_page(
    path: Path,
    title: str,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    found: ImageEvaluation,
    metrics: Sequence[Path],
) -> None:
    """Write the page to `path`. `metrics` are the metrics.jsonl of its training, those that exist."""
    tiles = figure_tiles(found.figures, _MEANING)
    plots = [codebook_plot(found.counts, "codes, most used first")]
    cards = plot_cards([*plots, *(training_plot(file, file.parent.name) for file in metrics if file.exists())])
    chosen = range(0, len(pictures), max(1, len(pictures) // SHOWN))[:SHOWN]
    counts = list(found.drawn)
    head = "".join(f"<th>{text}</th>" for text in ["original", *(f"{k} code{'s' * (k > 1)}" for k in counts), "caption"])
    rows = "".join(_drawn_row(number, pictures, captions, found) for number in chosen)
    near = "".join(_near_row(number, pictures, found.codes) for number in chosen)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="quiet">{len(pictures)} pictures, {found.codes.shape[1]} codes each.</p><div class="tiles">{tiles}</div>',
        f'<h2>Codebook and training</h2><div class="plots">{cards}</div>',
        f'<h2>Drawn from the first codes</h2><div class="card"><table><tr>{head}</tr>{rows}</table></div>',
        f'<h2>Nearest by equal codes</h2><div class="card"><table>{near}</table></div>',
    ]
    write_bytes(path, page(title, body).encode())


def _drawn_row(number: int, pictures: Sequence[Image.Image], captions: Sequence[str], found: ImageEvaluation) -> str:
    cells = [pictures[number], *(drawn[number] for drawn in found.drawn.values())]
    return f"<tr>{''.join(map(_cell, cells))}<td>{html.escape(captions[number])}</td></tr>"


def _near_row(number: int, pictures: Sequence[Image.Image], codes: np.ndarray) -> str:
    """The picture, and the others that have most codes in the same places."""
    equal = (codes == codes[number]).sum(axis=1)
    equal[number] = -1
    nearest = np.argsort(-equal, kind="stable")[:NEIGHBOURS]
    labels = "".join(f'<td>{_image(pictures[i])}<br><span class="quiet">{equal[i]} alike</span></td>' for i in nearest)
    return f"<tr>{_cell(pictures[number])}{labels}</tr>"


def _cell(picture: Image.Image) -> str:
    return f"<td>{_image(picture)}</td>"


def _image(picture: Image.Image) -> str:
    small = picture.convert("RGB").resize((96, 96), Image.Resampling.NEAREST if picture.width < 96 else Image.Resampling.LANCZOS)
    return f'<img alt="" src="{data_uri("image/png", encode_png(small))}">'
