"""What tokenizers learn from: utterances and pictures of document shards. Those that cannot be learned from are listed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from mmpt.data.codes_file import read_codes
from mmpt.data.lost import LOST_FILE, Lost, to_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image, Part, Speech
from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech
from mmpt.storage import write_bytes
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.speech.batches import SpeechExample
from mmpt.training.distributed import World


def parts(folders: Sequence[Path], kind: type, limit: int | None) -> Iterator[tuple[str, Part]]:
    """The parts of a kind, the first `limit` of them, each with the id that tokenizers/encode.py gives it."""
    documents = (document for folder in folders for document in DocumentShards(folder))
    found = (
        (f"{document.id}/{place}", part)
        for document in documents
        for place, part in enumerate(document.parts)
        if isinstance(part, kind)
    )
    return islice(found, limit)


def utterances(
    folders: Sequence[Path],
    sample_rate: int,
    limit: int | None,
    run: Path,
    world: World,
    why_not: Callable[[SpeechExample], str] = lambda example: "",
) -> list[SpeechExample]:
    """Utterances with a transcript. Those that cannot be decoded, or for which `why_not` gives a reason, are counted on standard
    error and listed in `run`/lost.jsonl. Raises `DataError` where none is left."""
    found, lost = [], []
    for name, part in parts(folders, Speech, limit):
        if not part.text.strip():
            continue
        try:
            example = SpeechExample(decode_speech(part.data, sample_rate), part.text)
            reason = why_not(example)
        except DataError as problem:
            reason = str(problem)
        if reason:
            lost.append(Lost(name, reason, whole=False, part="speech"))
        else:
            found.append(example)
    if not found:
        first = f": {lost[0].item}: {lost[0].reason}" if lost else ""
        raise DataError(f"no utterance to learn from, with a transcript, in {', '.join(map(str, folders))}{first}")
    if lost and world.rank == 0:
        write_bytes(run / LOST_FILE, to_lines(lost))
        share = f"{len(lost)} of {len(lost) + len(found)} utterances are left out"
        print(f"{share} (see {run / LOST_FILE}), the first: {lost[0].item}: {lost[0].reason}", file=sys.stderr, flush=True)
    return found


def pictures(folders: Sequence[Path], limit: int | None) -> list[tuple[str, ImageExample]]:
    """All pictures with their ids. Raises `DataError` where there is none, or one cannot be decoded."""
    found = [(name, ImageExample(decode_image(part.data), part.alt)) for name, part in parts(folders, Image, limit)]
    if not found:
        raise DataError(f"no picture in {', '.join(map(str, folders))}")
    return found


def with_codes(pictures: Sequence[tuple[str, ImageExample]], path: Path | None) -> list[ImageExample]:
    """The examples, those that have a line in the codes file `path` with its codes. Raises `DataError` where none has."""
    if path is None:
        return [example for _, example in pictures]
    codes = {line["id"]: line["codes"] for line in read_codes(path)}
    if not any(name in codes for name, _ in pictures):
        raise DataError(f"{path}: codes of none of the pictures, whose ids are such as {pictures[0][0]!r}")
    return [example._replace(generated=codes.get(name)) for name, example in pictures]
