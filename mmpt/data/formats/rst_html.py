"""reStructuredText as HTML, by docutils, with nothing of another file, of a program or of the network in it."""

import io
import re
from typing import NamedTuple

from mmpt.data.extra import need
from mmpt.errors import DataError

SETTINGS = {
    "_disable_config": True,  # no docutils.conf of the folder that one happens to be in
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "docinfo_xform": True,
    "report_level": 2,
    "halt_level": 5,
    "line_length_limit": 100_000,  # of substitutions, too, which can hold each other
    "syntax_highlight": "none",
    "smart_quotes": False,
    "embed_stylesheet": False,
    "stylesheet_path": "",
    "toc_backlinks": False,
    "input_encoding": "unicode",
    "output_encoding": "unicode",
}


_SUBSTITUTION = re.compile(r"^[ \t]*\.\.[ \t]+\|([^|\n]+)\|[ \t]+(?:replace|unicode)::(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_USED = re.compile(r"\|([^|\n]+)\|")
MAX_CHARACTERS = 32 << 20
"""Longest text that substitutions, which can hold each other, may make of a file."""


class Rendered(NamedTuple):
    """`lost` are (line, what docutils says) of each directive whose content is not there; line 0: not known."""

    html: str
    lost: list[tuple[int, str]]


def rst_html(text: str) -> Rendered:
    """Raises `DataError` where docutils cannot read it."""
    if (length := _substituted(text)) > MAX_CHARACTERS:
        raise DataError(f"its substitutions make {length} characters of it, at most {MAX_CHARACTERS} are made")
    core, nodes = need("docutils.core", "documents"), need("docutils.nodes", "documents")
    from mmpt.data.formats.rst_extensions import LEFT_OUT, register_what_is_in

    register_what_is_in(text)
    settings = SETTINGS | {"warning_stream": io.StringIO()}
    try:
        tree = core.publish_doctree(text, settings_overrides=settings)
        lost = []
        for message in list(tree.findall(nodes.system_message)):
            if told := _of_a_directive(message.children[0].astext() if message.children else "", LEFT_OUT):
                lost.append((int(message.get("line", 0) or 0), told))
            message.parent.remove(message)
        for part in list(tree.findall(nodes.docinfo)):
            part.parent.remove(part)
        for formula in list(tree.findall(nodes.math)):
            formula.replace_self(nodes.Text(f"${formula.astext()}$"))
        for formula in list(tree.findall(nodes.math_block)):
            formula.replace_self(nodes.paragraph("", f"$${formula.astext()}$$"))
        html = core.publish_from_doctree(tree, writer="html5", settings_overrides=settings)
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError, NotImplementedError) as problem:
        raise DataError(f"docutils cannot read it ({type(problem).__name__}: {problem})") from None
    return Rendered(html, lost)


def _of_a_directive(told: str, left_out: str) -> str:
    """The message where it says that something is not there, in one line; "" for what is only odd."""
    line = " ".join(told.split())
    if line.startswith(left_out):
        return line
    marks = ("Error in ", "directive", "deactivated", "disabled", "line-length-limit", "Malformed table", "Problem")
    return line[:300] if any(mark in line for mark in marks) else ""


def _substituted(text: str) -> int:
    """Characters of a text with its substitutions in place: docutils counts none of those within others."""
    bodies = {" ".join(match[1].lower().split()): match[2] for match in _SUBSTITUTION.finditer(text)}
    lengths: dict[str, int] = {}

    def length(name: str, around: frozenset[str]) -> int:
        if name not in bodies or name in around:  # docutils refuses circles
            return 0
        if name not in lengths:
            lengths[name] = len(bodies[name]) + used(bodies[name], around | {name})
        return lengths[name]

    def used(body: str, around: frozenset[str]) -> int:
        return sum(length(" ".join(match[1].lower().split()), around) for match in _overlapping(body))

    return len(text) + used(text, frozenset()) if bodies else len(text)


def _overlapping(body: str) -> list[re.Match]:
    """Whatever may be a reference: the bar that ends one may begin the next."""
    found, at = [], 0
    while match := _USED.search(body, at):
        found.append(match)
        at = match.end() - 1
    return found
