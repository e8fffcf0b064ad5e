"""Documents as sequences of tokens: each through the tokenizers, as one or several arranged sequences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmpt.data.arrange import Arrangement, arrange, as_it_stands
from mmpt.data.shards.tokens import Medium, MediumKind, TokenDocument
from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.media import decode_image, decode_speech
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:  # a specification is checked before torch is loaded
    from mmpt.tokenizers.multimodal import MultimodalTokenizer

BATCH = 256
"""Documents that go through the tokenizers together."""


def token_documents(
    documents: Iterable[Document],
    tokenizer: "MultimodalTokenizer",
    arrangements: Sequence[Arrangement] = (),
    features: Mapping[MediumKind, int] = MappingProxyType({}),
) -> Iterator[TokenDocument]:
    """One `TokenDocument` for each document and arrangement that fits it; without arrangements, each document as it stands.

    Ids are `<|begin|>` parts `<|end|>`; each id carries the loss weight of its part. A part's ids are computed once, however
    many arrangements use it. `features`: see `mmpt.data.curate.steps.to_tokens.ToTokens`.
    """
    stream = iter(documents)
    while batch := list(islice(stream, BATCH)):
        found = [list(_sequences(document, arrangements)) for document in batch]
        slots = partial(_slots, tokenizer=tokenizer, features=features)
        # By identity: equal parts of two sequences are one part of the document, and go through the tokenizers once.
        coded = [
            {id(part): part for _, sequence in sequences for part, weight in sequence if not slots(part, weight)}
            for sequences in found
        ]
        encoded = tokenizer.encode([list(parts.values()) for parts in coded])
        for document, sequences, parts, ids in zip(batch, found, coded, encoded, strict=True):
            ids_of = dict(zip(parts, ids, strict=True))
            for number, sequence in sequences:
                pieces = [_Piece(part, weight, ids_of.get(id(part), []), slots(part, weight)) for part, weight in sequence]
                alternate = arrangements[number].alternate if arrangements else None
                if alternate and not any(piece.slots for piece in pieces[-2:]):
                    pieces[-2:] = _alternated(pieces[-2], pieces[-1], *alternate, tokenizer.vocabulary)
                yield _token_document(f"{document.id}/{number}", document.source, pieces, tokenizer.vocabulary)


class _Piece(NamedTuple):
    """A part of a sequence: its `ids`, or how many `slots` its features take (it then has no ids yet)."""

    part: Part
    weight: float
    ids: list[int]
    slots: int


def _sequences(document: Document, arrangements: Sequence[Arrangement]) -> Iterator[tuple[int, list[tuple[Part, float]]]]:
    for number, arrangement in enumerate(arrangements or (None,)):
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
        if slots and not isinstance(part, Text):
            _check(part)
            kind = "image" if isinstance(part, Image) else "speech"
            media.append(Medium(kind, part.suffix, part.data, len(ids) + 1, slots))
            own, weight = vocabulary.encode_features(kind, slots), 0.0
        ids += own
        weights += [weight] * len(own)
    ids.append(vocabulary.special("<|end|>"))
    weights.append(next((weight for _, weight, _, slots in reversed(pieces) if not slots), 0.0))
    return TokenDocument(name, source, np.array(ids), np.array(weights, dtype=np.float32), tuple(media))


def _alternated(text: _Piece, speech: _Piece, tokens: int, codes: int, vocabulary: Vocabulary) -> Iterator[_Piece]:
    """So many tokens and so many codes in turn, each run of codes between marks of its own; then the rest of both.
    Where speech has several codebooks, each run holds whole frames. Raises `VocabularyError` where `codes` are none."""
    opening, *left, closing = speech.ids
    words = text.ids
    while len(words) >= tokens and len(left) > codes:
        yield text._replace(ids=words[:tokens])
        run, left = vocabulary.cut_speech(left, codes)
        yield speech._replace(ids=[opening, *run, closing])
        words = words[tokens:]
    yield text._replace(ids=words)
    yield speech._replace(ids=[opening, *left, closing])


def _check(part: Image | Speech) -> None:
    """Raise `DataError` where a medium cannot be decoded: here, and not in the middle of a training."""
    if isinstance(part, Image):
        decode_image(part.data)
    else:
        decode_speech(part.data)
