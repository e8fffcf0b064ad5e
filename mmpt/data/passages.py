"""Long texts cut where they may be: pieces that, one behind the other, are the text."""

import re

_BREAKS = (re.compile(r"\n[^\S\n]*\n\s*"), re.compile(r"\n"), re.compile(r"(?<=[.!?…。！？])\s+"), re.compile(r"\s+"))
"""Between paragraphs, lines, sentences, words."""


def passages(text: str, most_words: int, level: int = 0) -> list[str]:
    """Pieces of at most `most_words` words, cut between paragraphs where that will do, else lines, sentences or words."""
    if level == len(_BREAKS) or len(text.split()) <= most_words:
        return [text]
    edges = [0, *(match.end() for match in _BREAKS[level].finditer(text)), len(text)]
    found: list[str] = []
    room = 0
    for start, end in zip(edges, edges[1:], strict=False):
        piece = text[start:end]
        words = len(piece.split())
        if found and words <= room:
            found[-1] += piece
            room -= words
        else:
            found += passages(piece, most_words, level + 1) if piece else []
            room = most_words - len(found[-1].split()) if found else 0
    return found


def in_place(passage: str, text: str) -> str:
    """`text` with the white space that stands around `passage`."""
    bare = passage.strip()
    before, _, behind = passage.partition(bare) if bare else (passage, "", "")
    return before + text.strip() + behind
