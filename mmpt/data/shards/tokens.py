"""A tokenized document and its members in a shard: `KEY.json`, `KEY.ids.npy`, where not all are 1 `KEY.weights.npy`, and the
pictures and utterances that enter as continuous features, `KEY.0.png`, `KEY.1.flac`."""

import io
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmpt.data.shards.sample import decode_json, encode_json
from mmpt.errors import DataError, VocabularyError
from mmpt.modality import MEDIA
from mmpt.modality import Medium as MediumKind
from mmpt.vocabulary import MODALITIES, Vocabulary

FORMAT = "mmpt-tokens/1"
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(<[uf][24])', 'fortran_order': False, 'shape': \((\d{1,15}),\), \} *\n", re.DOTALL
)


@dataclass(frozen=True)
class Medium:
    """A picture or an utterance as encoded bytes (`suffix` names the codec), whose features take `slots` ids, those from `start`
    on; where text stands between them, they are the `runs` (distance from `start`, slots), which come to `slots` together."""

    kind: MediumKind
    suffix: str
    data: bytes = field(repr=False)
    start: int
    slots: int
    runs: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """One past the last slot."""
        return self.start + (sum(self.runs[-1]) if self.runs else self.slots)

    def places(self) -> np.ndarray:
        """Positions of the slots, int64 [slots]."""
        runs = self.runs or ((0, self.slots),)
        return np.concatenate([np.arange(self.start + at, self.start + at + slots) for at, slots in runs])


@dataclass(frozen=True, eq=False)
class TokenDocument:
    """One document as `ids` [tokens] (unsigned integers) with the loss `weights` float32 [tokens] of each (None: all are 1), and
    the `media` whose slots are among the ids, in order. `rejected`: the ids from there on are a sequence of their own, the prompt
    once more with an answer than which that of the first is preferred; 0: there is none. `advantage`: how much better the answer
    that it ends with is than others, None: nobody said."""

    id: str
    source: str
    ids: np.ndarray
    weights: np.ndarray | None = None
    media: tuple[Medium, ...] = ()
    rejected: int = 0
    advantage: float | None = None


def paired(chosen: TokenDocument, rejected: TokenDocument) -> TokenDocument:
    """One document of two sequences; see `TokenDocument.rejected`."""
    edge = len(chosen.ids)
    ones = [np.ones(len(one.ids), np.float32) if one.weights is None else one.weights for one in (chosen, rejected)]
    media = (*chosen.media, *(replace(medium, start=medium.start + edge) for medium in rejected.media))
    return replace(
        chosen, ids=np.concatenate([chosen.ids, rejected.ids]), weights=np.concatenate(ones), media=media, rejected=edge
    )


def sequences(document: TokenDocument) -> tuple[TokenDocument, ...]:
    """The document itself, or the two sequences that `paired` has joined, the second with `/rejected` behind its name."""
    edge = document.rejected
    if not edge:
        return (document,)
    weights = (None, None) if document.weights is None else (document.weights[:edge], document.weights[edge:])
    own = tuple(one for one in document.media if one.start < edge)
    other = tuple(replace(one, start=one.start - edge) for one in document.media if one.start >= edge)
    return (
        TokenDocument(document.id, document.source, document.ids[:edge], weights[0], own),
        TokenDocument(f"{document.id}/rejected", document.source, document.ids[edge:], weights[1], other),
    )


def id_type(vocabulary: Vocabulary) -> np.dtype:
    """Type in which ids of this vocabulary are stored: uint16 where they fit, else uint32 (little-endian)."""
    return np.dtype("<u2" if vocabulary.size <= 1 << 16 else "<u4")


def part_table(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """(tokens, kind) of each part of a document, int64 [parts, 2]: every picture and utterance with its two marks, be it codes or
    slots of features, and each run of text between them. The kind is an index into `MODALITIES`.

    `<|begin|>` counts with the first part and `<|end|>` with the last.
    """
    marks = {vocabulary.special(f"<|{kind}|>"): MODALITIES.index(kind) for kind in MEDIA}
    opening = np.isin(ids, list(marks))
    closing = np.isin(ids, [vocabulary.special("<|/image|>"), vocabulary.special("<|/speech|>")])
    first = int(ids[0] == vocabulary.special("<|begin|>"))
    last = len(ids) - int(ids[-1] == vocabulary.special("<|end|>"))
    edges = np.unique(np.concatenate([np.flatnonzero(opening), np.flatnonzero(closing) + 1]))
    starts = np.array([0, *edges[(edges > first) & (edges < last)]], dtype=np.int64)
    leading = np.where((starts == 0) & (len(ids) > first), first, starts)  # behind `<|begin|>`
    kinds = [marks.get(one, MODALITIES.index("text")) for one in np.asarray(ids)[leading].tolist()]
    return np.stack([np.diff([*starts, len(ids)]), kinds], axis=1).astype(np.int64)


def to_members(document: TokenDocument, vocabulary: Vocabulary) -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """(members of the sample, tokens by modality int64 [4], `part_table`).

    Raises `DataError` on an empty or misshapen document and `VocabularyError` on an id out of range.
    """
    ids = np.asarray(document.ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise DataError(f"ids of shape {ids.shape} and type {ids.dtype}, expected one row of integers, at least one")
    counts = np.bincount(vocabulary.modality(ids), minlength=len(MODALITIES))
    record = {
        "format": FORMAT,
        "id": document.id,
        "source": document.source,
        "length": len(ids),
        "tokens": dict(zip(MODALITIES, counts.tolist(), strict=True)),
    }
    _check_media(document.media, ids, vocabulary)
    _check_rejected(document.rejected, len(ids))
    if document.rejected:
        record["rejected"] = document.rejected
    if document.advantage is not None:
        record["advantage"] = document.advantage
    if document.media:
        record["media"] = [
            {"kind": medium.kind, "start": medium.start, "slots": medium.slots} | ({"runs": medium.runs} if medium.runs else {})
            for medium in document.media
        ]
    members = {"json": encode_json(record), "ids.npy": _npy(ids.astype(id_type(vocabulary)))}
    members |= {f"{number}.{medium.suffix}": medium.data for number, medium in enumerate(document.media)}
    if document.weights is not None:
        weights = np.asarray(document.weights, dtype="<f4")
        _check_weights(weights, len(ids))
        if (weights != 1.0).any():
            members["weights.npy"] = _npy(weights)
    return members, counts, part_table(ids, vocabulary)


def from_members(members: dict[str, bytes], vocabulary: Vocabulary) -> TokenDocument:
    """The inverse of `to_members`. Raises `DataError` where the sample is not whole. Ids are not compared with the ranges."""
    record = decode_json(members["json"])
    if record.get("format") != FORMAT:
        raise DataError(f"format is {record.get('format')!r}, expected {FORMAT!r}")
    missing = [name for name in ("id", "source", "length") if name not in record]
    if missing:
        raise DataError(f"field {', '.join(missing)} is missing")
    media = _media(record.get("media", []), members)
    surplus = members.keys() - {"json", "ids.npy", "weights.npy", *(f"{i}.{medium.suffix}" for i, medium in enumerate(media))}
    if surplus or "ids.npy" not in members:
        raise DataError(f"member {', '.join(sorted(surplus))} does not belong here" if surplus else "member ids.npy is missing")
    ids = _array(members["ids.npy"], "ids.npy")
    if ids.dtype != id_type(vocabulary) or ids.shape != (record["length"],):
        raise DataError(f"ids.npy: {ids.dtype} {ids.shape}, expected {id_type(vocabulary)} ({record['length']},)")
    weights = None
    if "weights.npy" in members:
        weights = _array(members["weights.npy"], "weights.npy")
        _check_weights(weights, len(ids))
    _check_media(media, ids, vocabulary)
    _check_rejected(rejected := record.get("rejected", 0), len(ids))
    advantage = record.get("advantage")
    if advantage is not None and not isinstance(advantage, int | float):
        raise DataError(f"advantage is {advantage!r}, expected a number")
    return TokenDocument(str(record["id"]), str(record["source"]), ids, weights, media, rejected, advantage)


def check_counts(document: TokenDocument, vocabulary: Vocabulary, counts: np.ndarray, parts: np.ndarray) -> None:
    """Raise `DataError` where an id is out of range, or the tokens of each modality int [4] or the `part_table` are not these."""
    try:
        found = np.bincount(vocabulary.modality(document.ids), minlength=len(MODALITIES))
    except VocabularyError as problem:
        raise DataError(str(problem)) from None
    if not np.array_equal(found, counts):
        raise DataError(f"{found.tolist()} tokens of {', '.join(MODALITIES)}, the index says {counts.tolist()}")
    found = part_table(document.ids, vocabulary)
    if not np.array_equal(found, parts):
        raise DataError(f"parts of (tokens, kind) {found.tolist()}, the index says {parts.tolist()}")


def _media(entries: Any, members: dict[str, bytes]) -> tuple[Medium, ...]:
    found = []
    try:
        for number, entry in enumerate(entries):
            (name,) = (name for name in members if name.startswith(f"{number}."))
            runs = tuple((int(at), int(slots)) for at, slots in entry.get("runs", ()))
            found.append(
                Medium(entry["kind"], name.partition(".")[2], members[name], int(entry["start"]), int(entry["slots"]), runs)
            )
    except (KeyError, TypeError, ValueError):
        raise DataError(f"media: {len(found)} of them are whole, the next lacks its entry or its member") from None
    return tuple(found)


def _check_media(media: tuple[Medium, ...], ids: np.ndarray, vocabulary: Vocabulary) -> None:
    """Each medium has a block of `<|feature|>` of its own, and each such block its medium."""
    slot, end = vocabulary.special("<|feature|>"), 0
    for medium in media:
        if medium.kind not in MEDIA or medium.slots < 1 or not medium.data:
            raise DataError(f"medium at {medium.start}: {medium.kind} of {len(medium.data)} bytes and {medium.slots} slots")
        if medium.start <= end or not _is_block(medium, ids, vocabulary):
            raise DataError(f"medium at {medium.start}: there is no block of {medium.slots} slots of {medium.kind} features")
        end = medium.end
    slots = int((ids == slot).sum())
    if slots != sum(medium.slots for medium in media):
        raise DataError(f"{slots} slots of features, {len(media)} media with {sum(medium.slots for medium in media)}")


def _is_block(medium: Medium, ids: np.ndarray, vocabulary: Vocabulary) -> bool:
    """Whether the ids of `medium` are its marks, its slots where it says, and text between them alone."""
    edges, views = 0, []
    for at, slots in medium.runs or ((0, medium.slots),):
        if at < edges or slots < 1:
            return False
        views.append((ids[medium.start + edges : medium.start + at].tolist(), slots))
        edges = at + slots
    text = all(token < vocabulary.text_size for tag, _ in views for token in tag)
    block = ids[medium.start - 1 : medium.end + 1].tolist()
    return text and medium.slots == sum(slots for _, slots in views) and block == vocabulary.encode_views(medium.kind, views)


def _check_rejected(start: Any, length: int) -> None:
    if type(start) is not int or not 0 <= start < length:
        raise DataError(f"rejected is {start!r}, expected a place among the {length} tokens, or 0")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes, member: str) -> np.ndarray:
    """The row in the bytes of a .npy file written by `_npy`, read-only, not copied. Nothing in the header is evaluated."""
    header = _HEADER.match(data)
    if header is None or header.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise DataError(f"{member}: not the header of a row of uint16, uint32 or float32 in the npy format 1.0")
    dtype, length = np.dtype(header[1].decode()), int(header[2])
    if len(data) != header.end() + length * dtype.itemsize:
        raise DataError(f"{member}: {len(data) - header.end()} bytes, expected {length} x {dtype.itemsize}")
    return np.frombuffer(data, dtype, offset=header.end())


def _check_weights(weights: np.ndarray, length: int) -> None:
    if weights.dtype != np.dtype("<f4") or weights.shape != (length,):
        raise DataError(f"weights of {weights.dtype} {weights.shape}, expected float32 ({length},)")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("weights must be finite and not negative")
