"""One self-contained HTML page of an image tokenizer: figures, codebook, and pictures drawn from ever more of their codes."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mmpt import html
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image as ImagePart
from mmpt.errors import DataError
from mmpt.evaluation.metrics.image_tokenizer import ImageEvaluation, evaluate_image_tokenizer
from mmpt.evaluation.pages.plots import codebook_plot, training_plot
from mmpt.evaluation.training_pictures import training_pictures
from mmpt.media import decode_image, encode_png
from mmpt.storage import write_bytes
from mmpt.tokenizers.image.gates import Gates
from mmpt.tokenizers.image.renderers import Renderer
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

SHOWN, NEIGHBOURS = 12, 4
STAGES = ("joint", "align", "quantize", "draw", "harden")
_MEANING = {
    "codes_used": "share of the codes in use",
    "entropy": "entropy of the codes ÷ that of even use",
    "embeddings, R@mean": "R@mean of embeddings",
    "codes, R@mean": "R@mean of codes",
    "PSNR": "PSNR of what is drawn, dB",
    "PSNR of the mean picture": "PSNR of the mean picture, dB",
    "read": "drawn pictures that read as their captions",
    "bits_per_image": "bits a picture",
}


def evaluate_image_run(
    run: Path,
    shards: Path,
    page: Path,
    gates: Gates | None = None,
    limit: int | None = None,
    trained_on: Sequence[Path] = (),
    examples: int | None = None,
    renderer: Renderer | None = None,
) -> ImageEvaluation:
    """Measure `run`/tokenizer, or the tokenizer in `run` itself, on the pictures of document shards, and write the page.

    `trained_on`: the shards whose first `examples` pictures it learned from, for the floors. `renderer`: what draws
    instead of the decoder. Raises `DataError` where the shards hold no picture, `ConfigError` where the renderer does not fit.
    """
    tokenizer = ImageTokenizer.load(run / "tokenizer" if (run / "tokenizer").is_dir() else run)
    stream = (part for document in DocumentShards(shards) for part in document.parts if isinstance(part, ImagePart))
    shown = list(islice(stream, limit))
    if not shown:
        raise DataError(f"{shards}: no picture")
    pictures, captions = [decode_image(part.data) for part in shown], [part.alt for part in shown]
    known, config, gates = iter(()), tokenizer.config, gates or Gates()
    if gates.floors and trained_on:
        known = training_pictures(trained_on, gates.floors.sample, config.side, config.aspect, examples)
    found = evaluate_image_tokenizer(tokenizer, pictures, captions, None, gates.judge, known, renderer)
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
    plots = [codebook_plot(found.counts, "codes, most used first")]
    plots += [training_plot(file, file.parent.name) for file in metrics if file.exists()]
    chosen = range(0, len(pictures), max(1, len(pictures) // SHOWN))[:SHOWN]
    shown = {f"{k} code{'s' * (k > 1)}": own for k, own in found.drawn.items()}
    if found.rendered:
        shown["by the renderer"] = found.rendered
    columns = ["original", *shown, "caption"]
    drawn = [[_image(pictures[number]), *(_image(own[number]) for own in shown.values()), captions[number]] for number in chosen]
    body = [
        html.figure_tiles(found.figures, _MEANING),
        html.heading("Codebook and training"),
        html.plots(plots),
        html.heading("Drawn from the first codes"),
        html.card(html.table(drawn, columns)),
        html.heading("Nearest by equal codes"),
        html.card(html.table([_nearest(number, pictures, found.codes) for number in chosen])),
    ]
    lead = f"{len(pictures)} pictures, {found.codes.shape[1]} codes each; features by {found.judge}."
    write_bytes(path, html.page(title, body, lead).encode())


def _nearest(number: int, pictures: Sequence[Image.Image], codes: np.ndarray) -> list[html.Html]:
    """The picture, and the others that have most codes in the same places."""
    equal = (codes == codes[number]).sum(axis=1)
    equal[number] = -1
    nearest = np.argsort(-equal, kind="stable")[:NEIGHBOURS]
    return [
        _image(pictures[number]),
        *(html.join([_image(pictures[i]), html.tag("div", f"{equal[i]} alike", class_="quiet")]) for i in nearest),
    ]


def _image(picture: Image.Image) -> html.Html:
    # Small ones keep their pixels, large ones are made smaller: either way a page of hundreds stays a few megabytes.
    small = picture.convert("RGB").resize((96, 96), Image.Resampling.NEAREST if picture.width < 96 else Image.Resampling.LANCZOS)
    return html.image(encode_png(small), "png")
