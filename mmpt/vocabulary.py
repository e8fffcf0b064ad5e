"""The one id space over text, special tokens, image codes and speech codes.

    0 … text_size−1 │ special tokens │ image codes │ speech codes
    (the text tokenizer's own ids)

Every token's modality follows from its id alone. The layout lies as `vocabulary.json`, with a fingerprint, in every set of
token shards and every checkpoint; two sides whose fingerprints differ must not meet.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path

import numpy as np

from mmpt.codebooks import Layout, by_frame, in_order
from mmpt.errors import VocabularyError
from mmpt.storage import parse_json, write_json

FORMAT = "mmpt-vocabulary/1"
FILE = "vocabulary.json"
SPECIAL = ("<|begin|>", "<|end|>", "<|image|>", "<|/image|>", "<|speech|>", "<|/speech|>", "<|feature|>")
"""`<|feature|>` stands where a row of continuous features comes in; it is never generated."""
MODALITIES = ("text", "special", "image", "speech")


@dataclass(frozen=True)
class Vocabulary:
    """Sizes of the four ranges.

    `text_size` ids belong to the text tokenizer, whose content `text_fingerprint` identifies. `image_codes` and
    `speech_codes` are codebook sizes; each picture is exactly `codes_per_image` codes long; speech runs at `speech_rate`
    codes a second. Where speech has several codebooks, each has an equal share of its range, in turn as `speech_layout` says;
    where pictures have, a picture has as many codes of each, those of the first before those of the second.
    """

    text_size: int
    text_fingerprint: str
    image_codes: int
    codes_per_image: int
    speech_codes: int
    speech_rate: float
    speech_codebooks: int = 1
    speech_layout: Layout = "flatten"
    image_codebooks: int = 1

    @property
    def special_offset(self) -> int:
        return self.text_size

    @property
    def image_offset(self) -> int:
        return self.text_size + len(SPECIAL)

    @property
    def speech_offset(self) -> int:
        return self.image_offset + self.image_codes

    @property
    def size(self) -> int:
        """Number of ids in all."""
        return self.speech_offset + self.speech_codes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the layout; equal fingerprints mean that every id has the same meaning."""
        content = {"format": FORMAT, "special": SPECIAL, **asdict(self)}
        if self.speech_codebooks == 1:  # as it was before there could be several
            del content["speech_codebooks"], content["speech_layout"]
        if self.image_codebooks == 1:
            del content["image_codebooks"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def special(self, token: str) -> int:
        """Id of a special token, such as `<|image|>`."""
        return self.special_offset + SPECIAL.index(token)

    def special_name(self, token: int) -> str:
        """The special token with this id."""
        return SPECIAL[token - self.special_offset]

    def codebook_range(self, codebook: int) -> tuple[int, int]:
        """(First id, one past the last id) of a codebook of speech."""
        size = self.speech_codes // self.speech_codebooks
        return self.speech_offset + codebook * size, self.speech_offset + (codebook + 1) * size

    def image_range(self, place: int) -> tuple[int, int]:
        """(First id, one past the last id) of the codebook of a picture's code at `place`."""
        size = self.image_codes // self.image_codebooks
        first = self.image_offset + place * self.image_codebooks // self.codes_per_image * size
        return first, first + size

    def codebook_of(self, token: int) -> int:
        """Which codebook of speech a code's id is of."""
        return (token - self.speech_offset) // (self.speech_codes // self.speech_codebooks)

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Modality → (first id, one past the last id)."""
        edges = (0, self.special_offset, self.image_offset, self.speech_offset, self.size)
        return {name: (edges[i], edges[i + 1]) for i, name in enumerate(MODALITIES)}

    def modality(self, ids: np.ndarray) -> np.ndarray:
        """Index into `MODALITIES` for each id, int64 of the same shape. Raises `VocabularyError` on an id out of range."""
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= self.size):
            wrong = int(ids.max() if ids.max() >= self.size else ids.min())
            raise VocabularyError(f"token id {wrong} is outside 0 … {self.size - 1}")
        return np.searchsorted([self.special_offset, self.image_offset, self.speech_offset], ids, side="right")

    def encode_image(self, codes: np.ndarray) -> list[int]:
        """Codes of one picture (codes_per_image) → `<|image|>` ids `<|/image|>`."""
        if len(codes) != self.codes_per_image:
            raise VocabularyError(f"a picture of {len(codes)} codes, expected {self.codes_per_image}")
        return self._block("<|image|>", codes, self.image_offset, self.image_codes, "<|/image|>")

    def encode_speech(self, codes: np.ndarray) -> list[int]:
        """Codes of one utterance → `<|speech|>` ids `<|/speech|>`."""
        return self._block("<|speech|>", codes, self.speech_offset, self.speech_codes, "<|/speech|>")

    def cut_speech(self, ids: list[int], count: int) -> tuple[list[int], list[int]]:
        """The first `count` of the ids of an utterance, and the rest, each a sequence of whole frames. Raises `VocabularyError`
        where so many are no whole frames."""
        if count % self.speech_codebooks:
            raise VocabularyError(f"{count} codes of speech are no whole frames of {self.speech_codebooks} codebooks")
        if self.speech_codebooks == 1 or self.speech_layout == "flatten":
            return ids[:count], ids[count:]
        size = self.speech_codes // self.speech_codebooks
        frames = by_frame(np.array(ids) - self.speech_offset, self.speech_codebooks, size, self.speech_layout)
        cut = np.split(frames, [count // self.speech_codebooks])
        first, rest = ((in_order(part, size, self.speech_layout) + self.speech_offset).tolist() for part in cut)
        return first, rest

    def encode_features(self, kind: str, slots: int) -> list[int]:
        """Of a picture or an utterance ("image", "speech") that enters as `slots` rows of features: its marks and their slots."""
        return self.encode_views(kind, [((), slots)])

    def encode_views(self, kind: str, views: Iterable[tuple[Sequence[int], int]]) -> list[int]:
        """The same in several `views`: for each, the ids of a tag of text, and so many slots behind it."""
        slot = self.special("<|feature|>")
        inside = [token for tag, slots in views for token in (*tag, *[slot] * slots)]
        return [self.special(f"<|{kind}|>"), *inside, self.special(f"<|/{kind}|>")]

    def _block(self, opening: str, codes: np.ndarray, offset: int, size: int, closing: str) -> list[int]:
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise VocabularyError(f"a code outside 0 … {size - 1} between {opening} and {closing}")
        return [self.special(opening), *(codes + offset).tolist(), self.special(closing)]

    def split(self, ids: list[int]) -> list[tuple[str, np.ndarray]]:
        """Cut a sequence into blocks in order: ("text", ids), ("image", codes), ("speech", codes), and ("image features", ids) or
        ("speech features", ids) where a block holds slots; begin and end vanish, and so do the tags in front of slots.

        Raises `VocabularyError` where the sequence breaks the grammar (an opening without its closing, a code outside its
        block, a picture of the wrong length). A sequence that stops inside a block is such a break.
        """
        blocks: list[tuple[str, np.ndarray]] = []
        inside: str | None = None
        run: list[int] = []
        slots, tag = 0, None  # tag: where text in front of slots was first seen in this block
        offsets = {"text": 0, "image": self.image_offset, "speech": self.speech_offset}

        def flush(name: str) -> None:
            if run or name != "text":
                blocks.append((name, np.asarray(run, dtype=np.int64) - offsets[name]))
                run.clear()

        for position, (token, modality) in enumerate(zip(ids, self.modality(np.asarray(ids, dtype=np.int64)), strict=True)):
            name = MODALITIES[modality]
            if name == "special":
                mark = SPECIAL[token - self.special_offset]
                if mark in ("<|image|>", "<|speech|>") and inside is None:
                    flush("text")
                    inside = mark[2:-2]
                elif inside is not None and mark == f"<|/{inside}|>":
                    if tag is not None and (run or not slots):
                        raise VocabularyError(f"position {tag}: a text id inside {inside}")
                    if inside == "image" and slots == 0 and len(run) != self.codes_per_image:
                        problem = f"a picture of {len(run)} codes, expected {self.codes_per_image}"
                        raise VocabularyError(f"position {position}: {problem}")
                    if slots and run:
                        raise VocabularyError(f"position {position}: {slots} slots of features and {len(run)} codes in one block")
                    if slots:
                        blocks.append((f"{inside} features", np.full(slots, self.special("<|feature|>"))))
                    else:
                        flush(inside)
                    inside, slots, tag = None, 0, None
                elif inside is not None and mark == "<|feature|>":
                    slots += 1
                elif inside is None and mark in ("<|begin|>", "<|end|>"):
                    flush("text")
                else:
                    raise VocabularyError(f"position {position}: {mark} {'inside ' + inside if inside else 'without an opening'}")
            elif name == "text" and inside is not None:
                tag = position if tag is None else tag
            elif name != (inside or "text"):
                raise VocabularyError(f"position {position}: a {name} id {'inside ' + inside if inside else 'outside its block'}")
            else:
                run.append(int(token))
        if inside:
            raise VocabularyError(f"the sequence ends inside {inside}")
        flush("text")
        return blocks

    def added_tokens(self) -> list[str]:
        """The strings of every id above the text range, in id order: what an ordinary Hugging Face tokenizer is extended with."""
        images = [f"<|image_{i:05d}|>" for i in range(self.image_codes)]
        return [*SPECIAL, *images, *(f"<|speech_{i:05d}|>" for i in range(self.speech_codes))]

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json` into `folder`."""
        ranges = {name: list(span) for name, span in self.ranges().items()}
        write_json(
            Path(folder) / FILE,
            {"format": FORMAT, **asdict(self), "special": SPECIAL, "ranges": ranges, "fingerprint": self.fingerprint},
        )

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read `vocabulary.json` from `folder`. Raises `VocabularyError` where it is missing, incomplete or edited."""
        path = Path(folder) / FILE
        try:
            return cls.parse(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise VocabularyError(f"{path}: no such file") from None

    @classmethod
    def parse(cls, data: bytes, path: str) -> "Vocabulary":
        """The same from the bytes of the file `path`."""
        content = parse_json(data, path, VocabularyError)
        if content.get("format") != FORMAT:
            raise VocabularyError(f"{path}: format is {content.get('format')!r}, expected {FORMAT!r}")
        fields = cls.__dataclass_fields__
        missing = [name for name, field in fields.items() if name not in content and field.default is MISSING]
        if missing:
            raise VocabularyError(f"{path}: {', '.join(missing)} is missing")
        vocabulary = cls(**{name: content[name] for name in fields if name in content})
        if content.get("fingerprint") != vocabulary.fingerprint:
            raise VocabularyError(f"{path}: the fingerprint does not match the content")
        return vocabulary


def check_same(one: Vocabulary, one_name: str, other: Vocabulary, other_name: str) -> None:
    """Raise `VocabularyError`, naming both sides and each field that differs, unless the vocabularies are the same."""
    if one.fingerprint == other.fingerprint:
        return
    differences = [
        f"  {name}: {getattr(one, name)!r} in {one_name}, {getattr(other, name)!r} in {other_name}"
        for name in Vocabulary.__dataclass_fields__
        if getattr(one, name) != getattr(other, name)
    ]
    raise VocabularyError(f"the vocabularies of {one_name} and {other_name} do not match:\n" + "\n".join(differences))
