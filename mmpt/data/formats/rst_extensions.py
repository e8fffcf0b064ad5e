"""What Sphinx and its extensions add to reStructuredText, as far as a reader sees it: told to docutils before a text is parsed.

The classes derive from docutils', so this module is imported where a text is parsed. docutils keeps directives and roles in one
table for a process; what is put into it here means the same for every text.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.directives.images import Figure, Image
from docutils.parsers.rst.languages import en

_DIRECTIVE = re.compile(r"^[ \t]*(?:[-*+] |\d+\. )?\.\.[ \t]+(?:\|[^|\n]+\|[ \t]+)?([\w:+.-]+?)[ \t]?::(?:[ \t]|$)", re.MULTILINE)
_ROLE = re.compile(r":([A-Za-z][\w:+.-]*):`")
_TITLED = re.compile(r"(.+?)\s*<[^<>]+>\Z", re.DOTALL)

CODE = ("code", "code-block", "sourcecode", "ipython", "doctest", "testcode", "testoutput", "prompt", "productionlist")
PICTURES = ("image", "thumbnail", "image-sg", "lightbox")
ELSEWHERE = (
    "include", "literalinclude", "raw", "plot", "graphviz", "mermaid", "uml", "digraph", "inheritance-diagram", "video",
    "youtube",
)  # fmt: skip
"""What brings a file, a program's picture or a film: nothing of it is fetched or run."""
UNSEEN = (
    "toctree", "index", "contents", "sectnum", "meta", "highlight", "default-role", "currentmodule", "module", "py:module",
    "py:currentmodule", "tabularcolumns", "rst-class", "cssclass", "sectionauthor", "codeauthor", "local-toc", "tags",
)  # fmt: skip
CONDITIONS = ("only", "ifconfig", "container", "grid", "tab-set", "tabs", "hlist", "div")
"""Directives whose argument is no text."""


class _AnyOptions(dict):
    """Every option is allowed; one whose value docutils would refuse is None."""

    def __missing__(self, name: str) -> Callable[[str | None], str]:
        return lambda value: value or ""

    @classmethod
    def like(cls, known: dict) -> "_AnyOptions":
        return cls({name: _forgiving(convert) for name, convert in known.items()})


def _forgiving(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(value: str) -> Any:
        try:
            return convert(value)
        except (ValueError, TypeError):
            return None

    return converted


class _AnyDirective(Directive):
    """One that is not known: its argument and its content are text."""

    optional_arguments, final_argument_whitespace, has_content = 1, True, True
    option_spec: ClassVar = _AnyOptions(any=str)  # an empty one would mean that there are none

    def run(self) -> list:
        found: list = []
        if self.arguments and self.name not in CONDITIONS:
            inline, messages = self.state.inline_text(self.arguments[0], self.lineno)
            found += [nodes.paragraph(self.arguments[0], "", *inline), *messages]
        box = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, box)
        return found + list(box.children)


class _Code(_AnyDirective):
    def run(self) -> list:
        text = "\n".join(self.content)
        return [nodes.literal_block(text, text)] if text.strip() else []


class _Unseen(_AnyDirective):
    def run(self) -> list:
        return []


class _Elsewhere(_AnyDirective):
    def run(self) -> list:
        what = f"{self.name} {self.arguments[0].splitlines()[0] if self.arguments else ''}".strip()
        return [self.state_machine.reporter.warning(f"{LEFT_OUT}{what[:200]}", line=self.lineno)]


LEFT_OUT = "what lies elsewhere or is made by a program is not read: "


class _Picture(Image):
    option_spec: ClassVar = _AnyOptions.like(Image.option_spec or {})

    def run(self) -> list:
        self.options = _of_pictures(self.options)
        return super().run()


class _Figure(Figure):
    option_spec: ClassVar = _AnyOptions.like(Figure.option_spec or {})

    def run(self) -> list:
        self.options = _of_pictures(self.options)
        return super().run()


def _of_pictures(options: dict) -> dict:
    """What of the options may be said: `loading` would have docutils read the file, sizes are the picture's own."""
    return {name: value for name, value in options.items() if name in ("alt", "name", "class", "target") and value is not None}


def _any_role(name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = ()) -> tuple:
    """A role that is not known: the title before "<target>", else the target, of "~a.b.c" the last name."""
    text = nodes.unescape(text)
    if titled := _TITLED.match(text):
        text = titled[1]
    elif text.startswith("~"):
        text = text[1:].rpartition(".")[2]
    return [nodes.inline(rawtext, text.removeprefix("!"))], []


def register_what_is_in(text: str) -> None:
    """Tell docutils of the directives and roles that a text uses and docutils does not know."""
    for name in {match.lower() for match in _DIRECTIVE.findall(text)}:
        kind = _KINDS.get(name)
        if kind is None and (name.startswith("auto") or name.startswith("doxygen")):
            kind = _Elsewhere
        if kind is not None or name not in en.directives:
            directives.register_directive(name, kind or _AnyDirective)
    for name in {match.lower() for match in _ROLE.findall(text)}:
        if name not in en.roles:
            roles.register_local_role(name, _any_role)


_KINDS: dict[str, type[Directive]] = {
    **dict.fromkeys(CODE, _Code),
    **dict.fromkeys(PICTURES, _Picture),
    "figure": _Figure,
    **dict.fromkeys(ELSEWHERE, _Elsewhere),
    **dict.fromkeys(UNSEEN, _Unseen),
}
