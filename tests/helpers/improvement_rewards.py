"""Rewards of a package of one's own."""

from mmpt.document import Text


def length(asked, answered, expected) -> int:
    """Of the text."""
    return sum(len(part.text) for part in answered if isinstance(part, Text))


def small_letters(asked, answered, expected) -> float:
    """Share of a to z in the answer."""
    text = "".join(part.text for part in answered if isinstance(part, Text))
    return sum("a" <= one <= "z" for one in text) / max(1, len(text))


def nothing(asked, answered, expected) -> float:
    return float("nan")
