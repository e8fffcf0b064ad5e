"""Document shards to token shards: each document through the tokenizers, as one or several arranged sequences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.arrange import Arrangement, arrange, as_it_stands
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import Medium, MediumKind, TokenDocument
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, decode_speech
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:  # a specification is checked before torch is loaded
    from mmpt.tokenizers.multimodal import MultimodalTokenizer

BATCH = 256


class FeatureRows(Schema):
    """How many rows a connector gives for a medium of each kind; null: it does not enter as features."""

    image: pydantic.PositiveInt | None = None
    speech: pydantic.PositiveInt | None = None


class ToTokensConfig(Schema):
    """Folders of the tokenizers (`text` may be a Hugging Face name), and the sequences to make of each document (of the
    first `documents`, all by default).

    A medium of a kind that `features` names enters as features where it is not learned (its loss weight is 0) or has no tokenizer
    here: the sample then keeps its bytes, and has a slot for each row.
    """

    text: str
    speech: Path | None = None
    image: Path | None = None
    arrangements: tuple[Arrangement, ...] = ()
    features: FeatureRows = FeatureRows()
    documents: int | None = None


class _Job(Schema):
    spec: ToTokensConfig
    folders: tuple[str, ...]


def write_tokens(
    config: ToTokensConfig,
    folders: Sequence[Path | str],
    out: Path | str,
    progress: Progress,
    title: str,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
) -> Summary:
    """Encode every document of the shard sets `folders` into the token shards `out`; see `write_set` for what is promised."""
    job = _Job(spec=config, folders=tuple(map(str, folders)))
    return write_set(
        out,
        read=read,
        config=job,
        units=units(job),
        built={"spec": config.model_dump(mode="json"), "shards": [one for folder in folders for one in shards.hashes(folder)]},
        run=run,
        progress=progress,
        title=title,
        vocabulary=_tokenizer(config).vocabulary,
    )


def units(job: _Job) -> list[Unit]:
    """One for each shard that is needed: [number of the set, the shard, how many of its documents]."""
    left = job.spec.documents
    found = []
    for number, folder in enumerate(job.folders):
        for unit in shards.units(shards.ShardsConfig(folder=folder)):
            count = unit.what["documents"] if left is None else min(left, unit.what["documents"])
            if count:
                found.append(Unit([number, unit.what, count], unit.size))
                left = None if left is None else left - count
    return found


def read(job: _Job, unit: Unit) -> Iterator[TokenDocument | Lost]:
    """The sequences of the documents of a shard."""
    number, shard, count = unit.what
    stream = islice(shards.read(shards.ShardsConfig(folder=job.folders[number]), Unit(shard, unit.size)), count)
    tokenizer, arrangements = _tokenizer(job.spec), job.spec.arrangements
    features = job.spec.features.model_dump(exclude_none=True)
    while batch := list(islice(stream, BATCH)):
        yield from (one for one in batch if isinstance(one, Lost))
        documents = [one for one in batch if isinstance(one, Document)]
        try:
            yield from list(token_documents(documents, tokenizer, arrangements, features))
        except DataError:  # one of them: which?
            for document in documents:
                try:
                    yield from list(token_documents([document], tokenizer, arrangements, features))
                except DataError as problem:
                    yield Lost(f"{shard['name']}: {document.id}", str(problem), document.id)


@lru_cache(maxsize=1)
def _tokenizer(config: ToTokensConfig) -> "MultimodalTokenizer":
    """Loaded once in each process."""
    from mmpt.tokenizers.multimodal import MultimodalTokenizer

    return MultimodalTokenizer.load(config.text, config.speech, config.image)


def token_documents(
    documents: Iterable[Document],
    tokenizer: "MultimodalTokenizer",
    arrangements: Sequence[Arrangement] = (),
    features: Mapping[MediumKind, int] = MappingProxyType({}),
) -> Iterator[TokenDocument]:
    """One `TokenDocument` for each document and arrangement that fits it; without arrangements, each document as it stands.

    Ids are `<|begin|>` parts `<|end|>`; each id carries the loss weight of its part. A part's ids are computed once, however
    many arrangements use it. `features`: see `ToTokensConfig`.
    """
    stream = iter(documents)
    while batch := list(islice(stream, BATCH)):
        found = [list(_sequences(document, arrangements)) for document in batch]
        slots = partial(_slots, tokenizer=tokenizer, features=features)
        coded = [
            {id(part): part for _, sequence in sequences for part, weight in sequence if not slots(part, weight)}
            for sequences in found
        ]
        encoded = tokenizer.encode([list(parts.values()) for parts in coded])
        for document, sequences, parts, ids in zip(batch, found, coded, encoded, strict=True):
            ids_of = dict(zip(parts, ids, strict=True))
            for number, sequence in sequences:
                pieces = [_Piece(part, weight, ids_of.get(id(part)), slots(part, weight)) for part, weight in sequence]
                if arrangements and arrangements[number].alternate and not any(piece.slots for piece in pieces[-2:]):
                    pieces[-2:] = _alternated(*pieces[-2:], *arrangements[number].alternate)
                yield _token_document(f"{document.id}/{number}", document.source, pieces, tokenizer.vocabulary)


class _Piece(NamedTuple):
    """A part of a sequence: its `ids`, or how many `slots` its features take."""

    part: Part
    weight: float
    ids: list[int] | None
    slots: int


def _sequences(document: Document, arrangements: Sequence[Arrangement]) -> Iterator[tuple[int, list[tuple[Part, float]]]]:
    for number, arrangement in enumerate(arrangements or [None]):
        sequence = arrange(document, arrangement) if arrangement else as_it_stands(document)
        if sequence is not None:
            yield number, sequence


def _slots(part: Part, weight: float, tokenizer: "MultimodalTokenizer", features: Mapping[MediumKind, int]) -> int:
    """Rows of features as which `part` enters; 0: it enters as ids."""
    if isinstance(part, Text):
        return 0
    kind = "image" if isinstance(part, Image) else "speech"
    return features[kind] if kind in features and (weight == 0 or getattr(tokenizer, kind) is None) else 0


def _token_document(name: str, source: str, pieces: list[_Piece], vocabulary: Vocabulary) -> TokenDocument:
    ids, weights, media = [vocabulary.special("<|begin|>")], [0.0], []
    for part, weight, own, slots in pieces:
        if slots:
            _check(part)
            kind = "image" if isinstance(part, Image) else "speech"
            media.append(Medium(kind, part.suffix, part.data, len(ids) + 1, slots))
            own, weight = vocabulary.encode_features(kind, slots), 0.0
        ids += own
        weights += [weight] * len(own)
    ids.append(vocabulary.special("<|end|>"))
    weights.append(next((weight for _, weight, _, slots in reversed(pieces) if not slots), 0.0))
    return TokenDocument(name, source, np.array(ids), np.array(weights, dtype=np.float32), tuple(media))


def _alternated(text: _Piece, speech: _Piece, tokens: int, codes: int) -> Iterator[_Piece]:
    """So many tokens and so many codes in turn, each run of codes between marks of its own; then the rest of both."""
    opening, *left, closing = speech.ids
    words = text.ids
    while len(words) >= tokens and len(left) > codes:
        yield text._replace(ids=words[:tokens])
        yield speech._replace(ids=[opening, *left[:codes], closing])
        words, left = words[tokens:], left[codes:]
    yield text._replace(ids=words)
    yield speech._replace(ids=[opening, *left, closing])


def _check(part: Image | Speech) -> None:
    """Raise `DataError` where a medium cannot be decoded: here, and not in the middle of a training."""
    if isinstance(part, Image):
        decode_image(part.data)
    else:
        decode_speech(part.data)
