"""Text and speech in turn, T tokens and S codes each (GLM-4-Voice: Zeng et al. 2024, arXiv:2412.02612, section 3.3): which blocks
of codes are pieces of one sound.

A block goes on in the next where exactly T tokens stand before it and exactly S codes in it; any other is the last of its sound:
the inverse of `mmpt.data.token_documents.in_turn`. So of two pairs of text and speech in a document each is a sound of its own.
"""

from collections.abc import Sequence

import numpy as np

from mmpt.codebooks import by_frame, in_order
from mmpt.vocabulary import Vocabulary

Alternate = tuple[int, int]
"""(T, S)."""


def spoken_in_turn(
    blocks: Sequence[tuple[str, np.ndarray]], vocabulary: Vocabulary, alternate: Alternate | None
) -> list[tuple[str, np.ndarray]]:
    """The blocks of `Vocabulary.split`, those in turn as the one text and the one sound that they are."""
    found: list[tuple[str, list[np.ndarray]]] = []
    going_on, tokens = False, 0
    for kind, values in blocks:
        if going_on and kind in ("text", "speech"):
            found[-1 if kind == "speech" else -2][1].append(values)
        else:
            found.append((kind, [values]))
        if kind == "text":
            tokens = len(values)
        else:
            going_on, tokens = kind == "speech" and (tokens, len(values)) == alternate, 0
    return [(kind, one_sound(pieces, vocabulary) if kind == "speech" else np.concatenate(pieces)) for kind, pieces in found]


def written_in_turn(text: Sequence[int], speech: Sequence[int], vocabulary: Vocabulary, alternate: Alternate) -> list[int]:
    """The ids of a text and of the blocks of its sound, in the order in which they were written: of a text with marks in it, and
    of one block, as they stand."""
    tokens, codes = alternate
    closing = vocabulary.special("<|/speech|>")
    ends = [place + 1 for place, token in enumerate(speech) if token == closing]
    if len(ends) < 2 or any(token >= vocabulary.special_offset for token in text):
        return [*text, *speech]
    found, left = [], list(text)
    for start, end in zip([0, *ends], ends, strict=False):
        # Before the last block stands what is left of the text; one that goes on was broken off behind it.
        whole = end == ends[-1] and end - start - 2 != codes
        before, left = (left, []) if whole else (left[:tokens], left[tokens:])
        found += [*before, *speech[start:end]]
    return found + left


def one_sound(blocks: Sequence[np.ndarray], vocabulary: Vocabulary) -> np.ndarray:
    """The codes int64 [n] of one sound out of those of its blocks, each in an order of its own."""
    books, layout = vocabulary.speech_codebooks, vocabulary.speech_layout
    if len(blocks) == 1 or books == 1 or layout == "flatten":
        return np.concatenate(blocks)
    size = vocabulary.speech_codes // books
    return in_order(np.concatenate([by_frame(block, books, size, layout) for block in blocks]), size, layout)
