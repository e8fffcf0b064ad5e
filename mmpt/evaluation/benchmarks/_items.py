"""Items of benchmarks in their own files: JSON and JSON lines, pictures and sounds in a folder."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mmpt.document import Image, Part, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, decode_speech
from mmpt.modality import SAMPLE_RATE

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer

T = TypeVar("T")


def first(items: Iterator[T], limit: int | None) -> list[T]:
    """The first `limit` of them, all where it is None."""
    return list(items if limit is None else islice(items, limit))


def items_of(path: Path, key: str, make: Callable[[str, dict[str, Any]], T], missing: list[str]) -> Iterator[T]:
    """`make(item, row)` of each row, `item` being its `key` or its number; those that lack something go to `missing`."""
    for number, row in enumerate(json_rows(path)):
        item = str(row.get(key, number))
        try:
            yield make(item, row)
        except KeyError as problem:
            missing.append(f"{item}: {problem} is missing")
        except DataError as problem:
            missing.append(f"{item}: {problem}")


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines. Raises `DataError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        # By its first character, not by its name: POPE's files of JSON lines are called .json.
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as problem:
        raise DataError(f"{path}: neither a JSON list nor JSON lines ({problem})") from None
    wrong = [number for number, row in enumerate(rows) if not isinstance(row, dict)]
    if wrong:
        raise DataError(f"{path}: row {wrong[0]} is no JSON object")
    return rows


def with_images(text: str, images: Sequence[Part]) -> list[Part]:
    """`text` with pictures where `<image>` stands; those that have no place come first. Raises `DataError` where there are more
    places than pictures."""
    pieces = text.split("<image>")
    if len(pieces) - 1 > len(images):
        raise DataError(f"{len(pieces) - 1} places for {len(images)} pictures")
    left = list(images)
    found: list[Part] = [left.pop(0) for _ in range(len(images) - (len(pieces) - 1))]
    for number, piece in enumerate(pieces):
        if piece.strip():
            found.append(Text(piece.strip()))
        if number < len(pieces) - 1:
            found.append(left.pop(0))
    return found


def image_file(folder: Path, name: str) -> Image:
    """A picture of a benchmark. Raises `DataError` where it is missing, damaged, or outside `folder`."""
    data = read_inside(folder, name)
    picture = decode_image(data)
    return Image(data, Path(name).suffix[1:].lower() or "png", picture.width, picture.height)


def speech_file(folder: Path, name: str) -> Speech:
    """A sound of a benchmark; raises as `image_file` does."""
    data = read_inside(folder, name)
    samples = decode_speech(data)
    return Speech(data, Path(name).suffix[1:].lower() or "wav", SAMPLE_RATE, len(samples) / SAMPLE_RATE)


def read_inside(folder: Path, name: str) -> bytes:
    """The bytes of a file in `folder`. Raises `DataError` where there is none, or `name` leads out of it."""
    # Resolved first, so that neither `..` nor a link in a downloaded benchmark reads a person's other files.
    path = (Path(folder) / name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(f"{name}: it leads out of {folder}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return path.read_bytes()


def image_tokenizer(model: "MultimodalModel") -> "ImageTokenizer":
    """That of a model. Raises `ConfigError` where it has none that was trained here."""
    tokenizer = model.tokenizer.image
    if not hasattr(tokenizer, "embed"):
        found = "no" if tokenizer is None else "a published"
        raise ConfigError(
            f"the model has {found} image tokenizer, expected one trained here, with embeddings of images and texts"
        )
    return cast("ImageTokenizer", tokenizer)
