"""Presentation MathML (W3C, MathML 3) as TeX that a person can read and that keeps every character of the formula in order.

Characters stay those of Unicode (× and not \\times), so that a formula reads as in the book: $F = G \\frac{M_1 M_2}{r^2}$.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmpt.data.formats.xml_tree import local_name

if TYPE_CHECKING:
    from lxml.etree import _Element

_SPECIAL = re.compile(r"[\\{}$&#%_^~]")
_ESCAPED = {"\\": r"\backslash ", "^": r"\hat{}", "~": r"\sim "}
_FENCES = {"{": r"\{", "}": r"\}"}
_ACCENTS = {"¯": "overline", "‾": "overline", "−": "overline", "_": "underline", "→": "vec", "⃗": "vec", "^": "hat", "ˆ": "hat"}


def tex(node: "_Element") -> str:
    """A `<math>` element between dollar signs, "" where it has no character; TeX that it holds itself counts first."""
    for note in node.iter("{*}annotation"):
        if "tex" in (note.get("encoding") or "").lower() and note.text and note.text.strip():
            return f"${' '.join(note.text.split())}$"
    inside = " ".join(_row(node).split())
    return f"${inside}$" if inside else ""


def _row(node: "_Element") -> str:
    return " ".join(filter(None, [_text(node.text), *(piece for child in node for piece in (_tex(child), _text(child.tail)))]))


def _tex(node: "_Element") -> str:
    name = local_name(node)
    if name in _LEAVES:
        # A leaf may hold elements of the host language, such as emphasis.
        return _LEAVES[name](" ".join("".join(map(str, node.itertext())).split()))
    if name in ("annotation", "annotation-xml", "mspace", "maligngroup", "malignmark", "none", "mprescripts"):
        return ""
    children = list(node)
    shape = _SHAPES.get(name)
    if shape is None or len(children) != shape[0]:
        return _OTHERS.get(name, _row)(node)
    return shape[1]([_tex(child) for child in children])


def _text(text: str | None) -> str:
    return _SPECIAL.sub(lambda match: _ESCAPED.get(match[0], f"\\{match[0]}"), (text or "").strip())


def _words(text: str) -> str:
    return rf"\text{{{_text(text)}}}" if text else ""


def _identifier(text: str) -> str:
    return _words(text) if len(text) > 1 and text.isalpha() and text.isascii() else _text(text)


def _braced(text: str) -> str:
    return text if len(text) == 1 else f"{{{text}}}"


def _script(base: str, mark: str, script: str) -> str:
    return f"{_grouped(base)}{mark}{_braced(script)}" if script else base


def _grouped(base: str) -> str:
    """A base of several pieces in braces, so that its script belongs to all of it; an empty one as TeX has it."""
    return base if base and " " not in base and not re.search(r"[\^_]", base) else f"{{{base}}}"


def _over(parts: Sequence[str]) -> str:
    accent = _ACCENTS.get(parts[1].strip("\\"))
    return rf"\{accent}{{{parts[0]}}}" if accent else rf"\overset{{{parts[1]}}}{{{parts[0]}}}"


def _table(node: "_Element") -> str:
    rows = r" \\ ".join(" & ".join(_row(cell) for cell in row) for row in node)
    return rf"\begin{{matrix}} {rows} \end{{matrix}}"


def _fenced(node: "_Element") -> str:
    opening, closing = node.get("open", "("), node.get("close", ")")
    between = (node.get("separators") or ",").strip()[:1]
    return f"{_FENCES.get(opening, opening)} {f' {between} '.join(map(_tex, node))} {_FENCES.get(closing, closing)}"


def _multiscripts(node: "_Element") -> str:
    """Base and pairs (below, above); what stands after `<mprescripts>` stands before the base."""
    names = [local_name(child) for child in node]
    border = names.index("mprescripts") if "mprescripts" in names else len(names)
    base, *after = [_tex(child) for child in node[:border]] or [""]
    before = [_tex(child) for child in node[border + 1 :]]
    return ("{}" + _pairs(before) + " " if any(before) else "") + _grouped(base) + _pairs(after)


def _pairs(scripts: Sequence[str]) -> str:
    marks = zip(scripts, "_^" * len(scripts), strict=False)
    return "".join(f"{mark}{_braced(script)}" for script, mark in marks if script)


_LEAVES: dict[str, Callable[[str], str]] = {
    "mi": _identifier,
    "mn": _text,
    "mo": _text,
    "mtext": _words,
    "ms": _words,
    "ci": _identifier,
    "cn": _text,
}
_SHAPES: dict[str, tuple[int, Callable[[Sequence[str]], str]]] = {
    "mfrac": (2, lambda parts: rf"\frac{{{parts[0]}}}{{{parts[1]}}}"),
    "msup": (2, lambda parts: _script(parts[0], "^", parts[1])),
    "msub": (2, lambda parts: _script(parts[0], "_", parts[1])),
    "msubsup": (3, lambda parts: _grouped(parts[0]) + _pairs(parts[1:])),
    "mroot": (2, lambda parts: rf"\sqrt[{parts[1]}]{{{parts[0]}}}"),
    "mover": (2, _over),
    "munder": (2, lambda parts: rf"\underset{{{parts[1]}}}{{{parts[0]}}}"),
    "munderover": (3, lambda parts: _grouped(parts[0]) + _pairs(parts[1:])),
}
"""Element → (number of children, what becomes of them); with another number, its children stand in a row."""
_OTHERS: dict[str, Callable[["_Element"], str]] = {
    "msqrt": lambda node: rf"\sqrt{{{_row(node)}}}",
    "mtable": _table,
    "mfenced": _fenced,
    "mmultiscripts": _multiscripts,
}
