"""What tokenizers learn from: utterances, recordings and pictures of document shards, decoded when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from mmpt.data.codes_file import read_codes
from mmpt.data.lost import from_lines
from mmpt.data.shards.index import id_hash
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Part, Speech
from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech
from mmpt.tokenizers.image.batches import ImageExample, Picture, checked_codes, prepared
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.speech.batches import Hear, SpeechExample, Utterance, utterance, why_not_trained
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.training.distributed import World
from mmpt.training.scan import Kept, Kind, part_at, scan

MIB = 1 << 20
V = TypeVar("V")
W = TypeVar("W")


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


class Examples(Sequence[V]):
    """Examples of a kind in shards, in the order of the data: `[i]` reads and decodes one, `[i:j]` is a sequence like this.

    In memory are `rows` (see `mmpt.training.scan.ROW`) and what is in `kept`. From several threads at once.
    """

    def __init__(self, kind: Kind[V], shards: Sequence[DocumentShards], rows: np.ndarray, kept: Kept[V]) -> None:
        self.rows = rows
        self._kind, self._shards, self._kept = kind, shards, kept

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, number: int) -> V: ...
    @overload
    def __getitem__(self, number: slice) -> "Examples[V]": ...
    def __getitem__(self, number: int | slice) -> "V | Examples[V]":
        if isinstance(number, slice):
            # Without what is kept, whose numbers are others: a part of the data is asked for once, and not in training.
            return Examples(self._kind, self._shards, self.rows[number], Kept(0, self._kind.nbytes))
        number = range(len(self.rows))[number]
        found = self._kept.get(number)
        if found is None:
            name, part = part_at(self._shards, self.rows[number])
            try:
                found = self._kind.make(part)
            except DataError as problem:
                raise DataError(f"{name}: {problem}") from None
            self._kept.put(number, found)
        return found

    @property
    def sizes(self) -> np.ndarray:
        """int64 [examples]: samples of speech, words of captions."""
        return self.rows["size"].astype(np.int64)

    def name(self, number: int) -> str:
        """The id that tokenizers/encode.py gives an example."""
        return part_at(self._shards, self.rows[number])[0]

    def made_by(self, make: Callable[[Part], W]) -> "Examples[W]":
        """The same parts as something else; nothing of it is kept."""
        own = self._kind
        kind = Kind(own.part, own.name, own.wanted, make, size=lambda _: 0, nbytes=lambda _: 0)
        return Examples(kind, self._shards, self.rows, Kept(0, kind.nbytes))


def find(kind: Kind[V], folders: Sequence[Path], limit: int | None, run: Path, world: World, kept_mib: int) -> Examples[V]:
    """The examples among the first `limit` parts; see `scan`. Up to `kept_mib` MiB of them stay decoded. Raises `DataError` where
    there is none, or a document is damaged."""
    shards = [DocumentShards(folder) for folder in folders]
    kept = Kept(kept_mib * MIB, kind.nbytes)
    found = scan(kind, shards, limit, run, world, kept)
    if not len(found.rows):
        lost = from_lines(found.lost)
        first = f": {lost[0].item}: {lost[0].reason}" if lost else ""
        raise DataError(f"no {kind.name} to learn from{kind.needs} in {', '.join(map(str, folders))}{first}")
    return Examples(kind, shards, found.rows, kept)


def utterances(
    folders: Sequence[Path],
    sample_rate: int,
    limit: int | None,
    run: Path,
    world: World,
    why_not: Callable[[SpeechExample], str] | None = None,
    settings: dict | None = None,
) -> Examples[SpeechExample]:
    """Utterances with a transcript; their sizes are in samples. Those that cannot be decoded, or for which `why_not` gives a
    reason, are left out; `settings`: JSON values that `why_not` depends on (see `Kind`). Raises `DataError` as `find`."""
    known = why_not is None or settings is not None
    kind = Kind(
        part="speech",
        name="utterance",
        needs=", with a transcript,",
        wanted=_has_transcript,
        make=lambda part: _learnable(part, sample_rate, why_not) if why_not else spoken(part, sample_rate),
        size=lambda example: len(example.samples),
        nbytes=lambda example: example.samples.nbytes,
        settings={"sample_rate": sample_rate, **(settings or {})} if known else None,
    )
    return find(kind, folders, limit, run, world, 0)


def features(
    folders: Sequence[Path],
    config: SpeechConfig,
    sample_rate: int,
    limit: int | None,
    run: Path,
    world: World,
    kept_mib: int,
    why_not: Callable[[SpeechExample], str],
    settings: dict,
    hear: Hear | None = None,
) -> Examples[Utterance]:
    """The same as what a speech tokenizer learns from: log-mels, texts, and of a fixed encoder what it hears by `hear`. Raises
    `DataError` as `find`."""

    def reason(example: SpeechExample) -> str:
        return why_not(example) or why_not_trained(example, config)

    kind = Kind(
        part="speech",
        name="utterance",
        needs=", with a transcript,",
        wanted=_has_transcript,
        make=lambda part: utterance(_learnable(part, sample_rate, reason), config, hear),
        size=lambda example: example.samples,
        nbytes=lambda example: example.nbytes,
        settings={"sample_rate": sample_rate, **settings},
    )
    return find(kind, folders, limit, run, world, kept_mib)


def recordings(
    folders: Sequence[Path], sample_rate: int, limit: int | None, run: Path, world: World, kept_mib: int
) -> Examples[np.ndarray]:
    """All speech as float32 [samples] at `sample_rate` Hz, with or without a transcript. Raises `DataError` as `find`."""
    kind = Kind(
        part="speech",
        name="recording",
        wanted=lambda part: True,
        make=lambda part: decode_speech(part.data, sample_rate),
        size=len,
        nbytes=lambda samples: samples.nbytes,
        settings={"sample_rate": sample_rate},
    )
    return find(kind, folders, limit, run, world, kept_mib)


def known_codes(examples: Examples[np.ndarray], path: Path) -> dict[int, np.ndarray]:
    """Of the codes file `path`, the codes int64 [n] of each example that has a line there, by its number. Raises `DataError`
    where none has."""
    places = {int(name): number for number, name in enumerate(examples.rows["name"])}
    found = {
        places[name]: np.array(line["codes"], dtype=np.int64)
        for line in read_codes(path)
        if (name := id_hash(line["id"])) in places
    }
    if not found:
        raise DataError(f"{path}: codes of none of the utterances, whose ids are such as {examples.name(0)!r}")
    return found


def pictures(
    folders: Sequence[Path], config: ImageTokenizerConfig, limit: int | None, run: Path, world: World, kept_mib: int
) -> Examples[Picture]:
    """All pictures, squashed, with their captions, whose words are their sizes. Raises `DataError` as `find`."""
    kind = Kind(
        part="image",
        name="picture",
        wanted=lambda part: True,
        make=lambda part: prepared(ImageExample(decode_image(part.data), part.alt), config),
        size=lambda example: len(example.caption),
        nbytes=lambda example: example.pixels.nbytes + example.caption.nbytes,
        settings={"captions": config.captions.model_dump(mode="json")},
    )
    return find(kind, folders, limit, run, world, kept_mib)


def with_codes(examples: Examples[Picture], path: Path | None, config: ImageTokenizerConfig) -> Sequence[Picture]:
    """The examples, those that have a line in the codes file `path` with its codes. Raises `DataError` where none has, or codes
    are not those of such a tokenizer."""
    if path is None:
        return examples
    names, places = np.unique(examples.rows["name"], return_inverse=True)
    dtype = np.int16 if config.quantizer.codes < 1 << 15 else np.int32
    codes = np.full((len(names), config.figures.codes_per_image), -1, dtype=dtype)
    for line in read_codes(path):
        name = np.uint64(id_hash(line["id"]))
        place = int(np.searchsorted(names, name))
        if place < len(names) and names[place] == name:
            codes[place] = checked_codes(line["codes"], line["id"], config)
    if (codes < 0).all():
        raise DataError(f"{path}: codes of none of the pictures, whose ids are such as {examples.name(0)!r}")
    return _WithCodes(examples, codes, places.reshape(-1))


class _WithCodes(Sequence[Picture]):
    """`codes` [names, queries], −1 where there are none; `places` [examples]: the row of each."""

    def __init__(self, examples: Sequence[Picture], codes: np.ndarray, places: np.ndarray) -> None:
        self._examples, self._codes, self._places = examples, codes, places

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, number: int) -> Picture: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Picture]: ...
    def __getitem__(self, number: int | slice) -> Picture | Sequence[Picture]:
        if isinstance(number, slice):
            return _WithCodes(self._examples[number], self._codes, self._places[number])
        return self._examples[number]._replace(generated=self._codes[self._places[number]])


def spoken(part: Part, sample_rate: int) -> SpeechExample:
    """An utterance and its transcript. Raises `DataError` where it cannot be decoded."""
    assert isinstance(part, Speech)
    return SpeechExample(decode_speech(part.data, sample_rate), part.text)


def _learnable(part: Part, sample_rate: int, why_not: Callable[[SpeechExample], str]) -> SpeechExample:
    example = spoken(part, sample_rate)
    reason = why_not(example)
    if reason:
        raise DataError(reason)
    return example


def _has_transcript(part: Speech) -> bool:
    return bool(part.text.strip())
