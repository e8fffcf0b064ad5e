"""Folders or shards of pictures to lines of codes, and lines of codes to picture files."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from rich.progress import Progress

from mmpt.data.codes_file import MediumCoder, Speed, encode_media, lines_to_decode
from mmpt.document import Image
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png
from mmpt.storage import write_bytes
from mmpt.tokenizers.interface import AnyImageTokenizer

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_TOGETHER = 256.0  # pictures


def encode_pictures(tokenizer: AnyImageTokenizer, source: Path | str, out: Path, progress: Progress) -> Speed:
    """`encode_media` of pictures."""

    def encode(pictures: Sequence[Pillow.Image]) -> list[dict]:
        return [{"codes": row.tolist()} for row in tokenizer.encode(list(pictures))]

    medium = MediumCoder(Image, SUFFIXES, "pictures", _TOGETHER, decode_image, lambda picture: 1.0, encode)
    return encode_media(medium, source, out, progress)


def draw_codes(
    tokenizer: AnyImageTokenizer, source: Path, out: Path, progress: Progress, first: int | None = None, seed: int = 0
) -> Speed:
    """A PNG file in `out` for each line of the codes file `source` (or of `source`/codes.jsonl), named by its id, of all codes or
    the `first` of them, by the tokenizer's renderer. Raises `DataError` naming a line that holds no codes of this tokenizer."""
    lines = lines_to_decode(source, out, SUFFIXES, ".png")
    left = [(line, target) for line, target in lines if not target.exists()]
    task = progress.add_task("decoding", total=len(lines), completed=len(lines) - len(left))
    began, stream = time.perf_counter(), iter(left)
    while batch := list(islice(stream, 64)):
        for line, _ in batch:
            if len(line["codes"]) != tokenizer.figures.codes_per_image:
                found = f"{len(line['codes'])} codes, expected {tokenizer.figures.codes_per_image}"
                raise DataError(f"{source}: {line['id']}: {found}")
        try:
            pictures = tokenizer.render(np.array([line["codes"] for line, _ in batch]), first, seed)
        except DataError as problem:
            names = ", ".join(line["id"] for line, _ in batch[:3])
            raise DataError(f"{source}: among {names}, …: {problem}") from None
        for (_, target), picture in zip(batch, pictures, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, encode_png(picture))
        progress.update(task, advance=len(batch))
    return Speed(len(left), float(len(left)), "pictures", time.perf_counter() - began, 0, len(lines) - len(left))
