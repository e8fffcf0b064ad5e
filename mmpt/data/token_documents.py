"""Documents as sequences of tokens: each through the tokenizers, as one or several arranged sequences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmpt.chat import ChatMarker, Coded, Said, Stretch
from mmpt.data.arrange import Arrangement, arrange, as_it_stands
from mmpt.data.feature_rows import MediumRows, TaggedView, feature_block
from mmpt.data.shards.tokens import MediumKind, TokenDocument, paired
from mmpt.document import Document, Part, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.modality import medium_of
from mmpt.tokenizers.text import encode_text
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:  # a specification is checked before torch is loaded
    from transformers import PreTrainedTokenizerBase

    from mmpt.tokenizers.multimodal import MultimodalTokenizer

BATCH = 256
"""Documents that go through the tokenizers together."""


def token_documents(
    documents: Iterable[Document],
    tokenizer: "MultimodalTokenizer",
    arrangements: Sequence[Arrangement] = (),
    features: Mapping[MediumKind, MediumRows] = MappingProxyType({}),
) -> Iterator[TokenDocument]:
    """One `TokenDocument` for each document and arrangement that fits it; without arrangements, each document as it stands.

    Ids are `<|begin|>` parts `<|end|>`, each with the loss weight of its part; of a conversation, whose parts have roles, they
    are what `mmpt.chat` makes of it, nothing before or behind, and may be several. A part's ids are computed once, however many
    sequences use it. A preferred and a rejected answer are one document of two sequences. `features`: see
    `mmpt.data.curate.steps.to_tokens.ToTokens`.

    Raises `ConfigError` on a conversation where `tokenizer` has no `chat`, `DataError` where one of the documents is at fault.
    """
    stream = iter(documents)
    while batch := list(islice(stream, BATCH)):
        known: dict[int, list[TaggedView]] = {}  # of parts by identity: each is looked at once, however many sequences use it
        found = [
            [
                one._replace(sides=[[_viewed(piece, tokenizer, features, known) for piece in side] for side in one.sides])
                for one in _sequences(document, arrangements, tokenizer)
            ]
            for document in batch
        ]
        # By identity: equal parts of two sequences are one part of the document, and go through the tokenizers once.
        coded = [
            {id(one.part): one.part for sequence in sequences for one in chain(*sequence.sides) if not (one.ids or one.views)}
            for sequences in found
        ]
        encoded = tokenizer.encode([list(parts.values()) for parts in coded])
        for document, sequences, parts, ids in zip(batch, found, coded, encoded, strict=True):
            ids_of = dict(zip(parts, ids, strict=True))
            for one in sequences:
                sides = []
                for side in one.sides:
                    pieces = [piece if piece.ids or piece.views else piece._replace(ids=ids_of[id(piece.part)]) for piece in side]
                    if one.alternate:
                        pieces = list(in_turn(pieces, *one.alternate, tokenizer.vocabulary))
                    name = f"{document.id}/{one.name}"
                    sides.append(_token_document(name, document.source, pieces, tokenizer.vocabulary, one.bare))
                yield sides[0] if len(sides) == 1 else paired(*sides)


class Piece(NamedTuple):
    """A part of a sequence: its `ids`, or the `views` in which it enters as features (it then has no ids yet). `spoken`: text and
    speech may stand in turn."""

    part: Part
    weight: float
    ids: list[int] = []
    views: list[TaggedView] = []
    spoken: bool = True


class _Sequence(NamedTuple):
    """`sides`: the pieces, or those with the preferred and those with the rejected answer. `bare`: without `<|begin|>` and
    `<|end|>`."""

    name: str
    sides: list[list[Piece]]
    alternate: tuple[int, int] | None
    bare: bool


def _sequences(document: Document, arrangements: Sequence[Arrangement], tokenizer: "MultimodalTokenizer") -> Iterator[_Sequence]:
    for number, arrangement in enumerate(arrangements or (None,)):
        parts = arrange(document, arrangement) if arrangement else as_it_stands(document)
        if parts is None:
            continue
        alternate = arrangement.alternate if arrangement else None
        if not any(part.role for part in document.parts):
            pieces = [Piece(part, weight, spoken=place >= len(parts) - 2) for place, (part, weight) in enumerate(parts)]
            yield _Sequence(str(number), [pieces], alternate, False)
            continue
        if tokenizer.chat is None:
            raise ConfigError(f"{document.id} is a conversation: say how its turns are marked (chat: {{template: own}})")
        alternate = alternate or tokenizer.chat.format.alternate
        if any(part.role == "rejected" for part in document.parts):
            if arrangement is not None:
                raise DataError(f"{document.id}: arrangements do not go with a preferred and a rejected answer")
            yield _Sequence(str(number), [_side(side, tokenizer.chat) for side in _answers(parts)], alternate, True)
            continue
        for place, stretches in enumerate(tokenizer.chat.sequences(parts)):
            pieces = conversation_pieces(stretches, [part for part, _ in parts])
            name = f"{number}.{place}" if place else str(number)
            yield _Sequence(name, [pieces], alternate, True)


def _answers(parts: Sequence[tuple[Part, float]]) -> tuple[list[tuple[Part, float]], list[tuple[Part, float]]]:
    """The conversation with the preferred, and with the rejected last answer. Raises `DataError` where the first is missing."""
    rejected = [(replace(part, role="assistant"), weight) for part, weight in parts if part.role == "rejected"]
    chosen = [(part, weight) for part, weight in parts if part.role != "rejected"]
    last, turn = chosen[-1][0] if chosen else Text(""), rejected[0][0].turn
    if last.role != "assistant" or last.turn != turn:
        raise DataError(f"turn {turn}: a rejected answer, but no answer that is preferred to it")
    return chosen, [*((part, weight) for part, weight in chosen if part.turn != turn), *rejected]


def _side(parts: Sequence[tuple[Part, float]], chat: ChatMarker) -> list[Piece]:
    # One sequence: of both conversations the last answer alone is learned.
    (stretches,) = chat.sequences([(part, weight if part.turn == parts[-1][0].turn else 0.0) for part, weight in parts])
    return conversation_pieces(stretches, [part for part, _ in parts])


def conversation_pieces(stretches: Sequence[Stretch], parts: Sequence[Said]) -> list[Piece]:
    """Pieces of a marked conversation of `parts`; those of media have no ids yet."""
    found = []
    for one in stretches:
        part = None if one.part is None else parts[one.part]
        if part is None:
            found.append(Piece(Text(""), one.weight, one.ids, spoken=one.answer))
        elif isinstance(part, Coded):
            found.append(Piece(Text(""), one.weight, list(part.ids), spoken=False))
        else:
            found.append(Piece(part, one.weight, spoken=one.answer))
    return found


def in_turn(pieces: Sequence[Piece], tokens: int, codes: int, vocabulary: Vocabulary) -> Iterator[Piece]:
    """With each text that is followed by codes of speech in turn with them."""
    before: Piece | None = None
    for piece in pieces:
        if before is not None:
            if before.spoken and isinstance(before.part, Text) and isinstance(piece.part, Speech) and not piece.views:
                yield from _alternated(before, piece, tokens, codes, vocabulary)
                before = None
                continue
            yield before
        before = piece
    if before is not None:
        yield before


def _viewed(
    piece: Piece,
    tokenizer: "MultimodalTokenizer",
    features: Mapping[MediumKind, MediumRows],
    known: dict[int, list[TaggedView]],
) -> Piece:
    """The piece with its views, where it enters as features; `known`: those of parts by identity."""
    part = piece.part
    if piece.ids or isinstance(part, Text) or (kind := medium_of(part)) not in features:
        return piece
    if piece.weight != 0 and getattr(tokenizer, kind) is not None:
        return piece
    if id(part) not in known:
        known[id(part)] = tagged(features[kind], part.data, tokenizer.text)
    return piece._replace(views=known[id(part)])


def tagged(rows: MediumRows, data: bytes, text: "PreTrainedTokenizerBase") -> list[TaggedView]:
    """The views of a medium of these bytes, their tags as ids of the tokenizer `text`. Raises `DataError` where it cannot be
    decoded: here, and not in the middle of a training."""
    return [TaggedView(encode_text(text, tag) if tag else [], count) for tag, count in rows.views(data)]


def _token_document(name: str, source: str, pieces: list[Piece], vocabulary: Vocabulary, bare: bool) -> TokenDocument:
    ids, weights, media = ([], [], []) if bare else ([vocabulary.special("<|begin|>")], [0.0], [])
    for part, weight, own, views, _ in pieces:
        if views and not isinstance(part, Text):
            medium, own = feature_block(part, views, len(ids), vocabulary)
            media.append(medium)
            weight = 0.0
        ids += own
        weights += [weight] * len(own)
    if not bare:
        ids.append(vocabulary.special("<|end|>"))
        weights.append(next((piece.weight for piece in reversed(pieces) if not piece.views), 0.0))
    return TokenDocument(name, source, np.array(ids), np.array(weights, dtype=np.float32), tuple(media))


def _alternated(text: Piece, speech: Piece, tokens: int, codes: int, vocabulary: Vocabulary) -> Iterator[Piece]:
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
