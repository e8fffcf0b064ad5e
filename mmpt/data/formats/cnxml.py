"""A CNXML module as runs of text with its pictures between them, in the order of the book.

The text is plain, with the marks of Markdown for what has a place of its own: headings, items of lists, quotations; rows of
tables are lines, their cells apart by tabs. Emphasis and links are their words, formulas TeX, footnotes stand in brackets where
their mark stands. A reference without words is named as readers see it, such as "Figure 2", and so is what it refers to.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from mmpt.data.formats.cnxml_labels import Labels, is_subfigure
from mmpt.data.formats.html_run import Run
from mmpt.data.formats.mathml import tex
from mmpt.data.formats.references import Picture
from mmpt.data.formats.xml_tree import local_name, words_of

if TYPE_CHECKING:
    from lxml.etree import _Element

Captions = Literal["after", "before"]
"""Where the caption of a figure stands: after its pictures, as in the book, or before them."""
_BLOCKS = {
    "para", "section", "note", "example", "exercise", "problem", "solution", "commentary", "equation", "figure", "subfigure",
    "table", "list", "quote", "definition", "meaning", "rule", "statement", "proof", "preformat", "abstract", "caption",
    "content", "glossary", "injected-exercise", "div",
}  # fmt: skip
_HIDDEN = {"metadata", "colspec", "spanspec", "param", "label", "title"}
"""What is not read where it stands: it is no text, or is read with what it belongs to."""
_ELSEWHERE = {"iframe", "video", "audio", "flash", "object", "java-applet", "labview", "download"}
_SCRIPTS = {"sup": "^", "sub": "_"}


class Elsewhere(NamedTuple):
    """Something that a page shows and that is no picture: `target` is its reference, `line` where it stands."""

    what: str
    target: str
    line: int


Block = str | Picture | Elsewhere


def cnxml_blocks(root: "_Element", other: Callable[[str], "Labels | None"], captions: Captions = "after") -> Iterator[Block]:
    """Yield the text runs and pictures of a module. No run is empty.

    `other` gives the labels of another module of the book by its id, None where there is none.
    """
    return iter(_Reader(Labels(root), other, captions).read(root))


class _Reader:
    def __init__(self, labels: "Labels", other: Callable[[str], "Labels | None"], captions: Captions) -> None:
        self._labels, self._other, self._captions = labels, other, captions
        self._run, self._found = Run(), []
        self._in_cell = False

    def read(self, root: "_Element") -> list[Block]:
        self._line("# ", self._labels.title_node)
        for part in (*root.iterfind("{*}metadata/{*}abstract"), *root.iterfind("{*}content"), *root.iterfind("{*}glossary")):
            self._element(part, 1)
        self._take()
        return self._found

    def _take(self) -> None:
        if text := self._run.take():
            self._found.append(text)

    def _words(self, text: str | None) -> None:
        if text:
            words = " ".join(text.split())
            spaced = (" " if text[:1].isspace() else "") + words + (" " if words and text[-1:].isspace() else "")
            self._run.add(spaced)

    def _inside(self, node: "_Element", depth: int) -> None:
        self._words(node.text)
        for child in node:
            self._element(child, depth)
            self._words(child.tail)

    def _break(self, breaks: int) -> None:
        if self._in_cell:
            self._run.add(" ")
        else:
            self._run.block(breaks)

    def _line(self, mark: str, node: "_Element | None", before: str = "") -> None:
        """A title on lines of its own, after a mark and what stands before its words."""
        if node is None and not before:
            return
        self._break(2)
        self._words(mark + before + (" " if before else "") if node is not None else mark + before)
        if node is not None:
            self._inside(node, 0)
        self._break(2)

    def _element(self, node: "_Element", depth: int) -> None:
        name = local_name(node)
        if name in _HIDDEN:
            return
        if method := _METHODS.get(name):
            method(self, node, depth)
        elif name in _ELSEWHERE:
            self._found_elsewhere(node, name)
        elif name in _BLOCKS:
            self._block(node, depth)
        else:  # emphasis, term, span, cite, code …: their words
            self._inside(node, depth)

    def _block(self, node: "_Element", depth: int) -> None:
        """What stands on lines of its own: its label and title, then what is in it."""
        deeper = depth + (local_name(node) == "section")
        self._break(2)
        label, title = node.find("{*}label"), node.find("{*}title")
        mark = "#" * min(deeper, 6) + " " if local_name(node) == "section" and (words_of(label) or words_of(title)) else ""
        for heading in (label, title):
            if words_of(heading):
                self._line(mark, heading)
                mark = ""
        self._inside(node, deeper)
        self._break(2)

    def _figure(self, node: "_Element", depth: int) -> None:
        """Its pictures, and its caption after or before them: number, title, and the caption's words with their credits."""
        self._break(2)
        captions = [*node.iterfind("{*}caption")]
        if self._captions == "before":
            self._caption(node, captions, depth)
        for child in node:
            if child not in captions:
                self._element(child, depth)
        if self._captions == "after":
            self._caption(node, captions, depth)

    def _caption(self, node: "_Element", captions: "list[_Element]", depth: int) -> None:
        title = node.find("{*}title")
        number = "" if is_subfigure(node) else f"{self._labels.name_of(node)}."
        if not (number or captions or words_of(title)):
            return
        self._break(2)
        self._words(number + " ")
        if title is not None and words_of(title):
            self._inside(title, depth)
            self._words(" " if words_of(title)[-1] in ".?!:" else ". ")
        for caption in captions:
            self._inside(caption, depth)
            self._words(" ")
        self._break(2)

    def _media(self, node: "_Element", depth: int) -> None:
        """A picture for its `<image>` elements: one where they are the same for different readers, else one each."""
        images = [*node.iterfind("{*}image")]
        targets: dict[int, list[str]] = {}
        for number, image in enumerate(images):
            # Pictures for other readers than those of pages (`for="pdf"`) are the same picture, the worse one.
            alternative = image.get("for") is not None and number > 0
            targets.setdefault(0 if alternative else number, []).append(image.get("src") or "")
        for number, found in targets.items():
            self._take()
            alt = " ".join((node.get("alt") or images[number].get("alt") or "").split())
            self._found.append(Picture(tuple(found), alt, images[number].sourceline or 0))
        for child in node:
            if child not in images:
                self._element(child, depth)
            self._words(child.tail)

    def _picture(self, node: "_Element", depth: int) -> None:
        """An `<image>` that stands in no `<media>`."""
        self._take()
        alt = " ".join((node.get("alt") or "").split())
        self._found.append(Picture((node.get("src") or "",), alt, node.sourceline or 0))

    def _found_elsewhere(self, node: "_Element", name: str) -> None:
        self._found.append(Elsewhere(name, node.get("src") or node.get("url") or "", node.sourceline or 0))
        self._inside(node, 0)  # what stands in its place

    def _list(self, node: "_Element", depth: int) -> None:
        """Items with their marks, each on its own line; those of an inline list in the line."""
        inline = node.get("display") == "inline" or self._in_cell
        if not inline:
            self._run.block(1 if local_name(node.getparent()) == "item" else 2)  # pyright: ignore[reportArgumentType]
        if words_of(title := node.find("{*}title")):
            self._line("", title)
        numbers = node.get("list-type") or node.get("type")
        at = int(start) if (start := node.get("start-value") or "1").isdecimal() else 1
        for child in node:
            if local_name(child) != "item":
                self._element(child, depth)
                continue
            mark = _number(at, node.get("number-style") or "") if numbers == "enumerated" else "- "
            mark = "" if numbers == "labeled-item" or node.get("bullet-style") == "none" else mark
            at += 1
            if inline:
                self._run.add(" ")
                self._inside(child, depth)
                self._run.add(" ")
            else:
                self._item(child, mark, depth)
        if not inline:
            self._run.block(2)

    def _item(self, node: "_Element", mark: str, depth: int) -> None:
        self._run.block(1)
        if not words_of(node) and next(node.iter("{*}image"), None) is not None:
            self._words(mark)  # a mark waits for text, and here a picture comes
        self._run.push(mark, " " * len(mark))
        if words_of(label := node.find("{*}label")):
            self._inside(label, depth)  # pyright: ignore[reportArgumentType]
            self._words(" ")
        self._inside(node, depth)
        self._run.pop()
        self._run.block(1)

    def _exercise(self, node: "_Element", depth: int) -> None:
        """With its number, which stands for it in references."""
        number = self._labels.name_of(node).rpartition(" ")[2]
        self._break(2)
        self._run.push(mark := f"{number}. ", " " * len(mark))
        self._block(node, depth)
        self._run.pop()
        self._break(2)

    def _quote(self, node: "_Element", depth: int) -> None:
        if node.get("display") == "inline":
            self._inside(node, depth)
            return
        self._break(2)
        self._run.push("> ", "> ")
        self._block(node, depth)
        self._run.pop()
        self._break(2)

    def _table(self, node: "_Element", depth: int) -> None:
        """Its number and title, then each row on a line, its cells apart by tabs; a caption comes last."""
        self._line("", node.find("{*}title"), before=f"{self._labels.name_of(node)}.")
        for row in node.iter("{*}row"):
            self._run.block(1)
            cells = [cell for cell in row if local_name(cell) in ("entry", "entrytbl")]
            was, self._in_cell = self._in_cell, True
            empty = next((number for number, cell in enumerate(cells) if len(cell) or words_of(cell)), 0)
            self._run.add_verbatim("\t" * empty)  # tabs that the run holds until text comes are none at a line's beginning
            for number, cell in enumerate(cells[empty:], empty):
                if local_name(cell) == "entry":
                    self._inside(cell, depth)
                if number < len(cells) - 1:
                    self._run.tabs += 1
            self._in_cell = was
        self._run.block(2)
        for caption in node.iterfind("{*}caption"):
            self._block(caption, depth)

    def _definition(self, node: "_Element", depth: int) -> None:
        """A term and what it means, on one line."""
        self._run.block(1)
        meanings = [*node.iterfind("{*}meaning")]
        for child in node:
            if child in meanings:
                self._words(": " if child is meanings[0] else "; ")
                self._inside(child, depth)
            else:
                self._element(child, depth)
        self._run.block(1)

    def _link(self, node: "_Element", depth: int) -> None:
        if words_of(node) or len(node):
            self._inside(node, depth)
        elif (url := node.get("url") or "").startswith("#"):  # a place that a publisher's server fills
            self._found.append(Elsewhere("link", url, node.sourceline or 0))
        else:
            self._words(self._reference(node.get("document") or "", node.get("target-id") or "") or url)

    def _reference(self, document: str, target: str) -> str:
        """What a reference without words of its own is called."""
        labels = self._other(document) if document else self._labels
        if labels is None:
            return ""
        name = labels.names.get(target, "")
        if labels.title == self._labels.title:
            return name
        return f"{name} ({labels.title})" if name else labels.title

    def _math(self, node: "_Element", depth: int) -> None:
        self._words(tex(node))

    def _footnote(self, node: "_Element", depth: int) -> None:
        self._words(" [")
        self._inside(node, depth)
        self._words("]")

    def _script(self, node: "_Element", depth: int) -> None:
        """Above or below the line: as in TeX, since digits that lose their place are another number."""
        words = words_of(node)
        self._words(_SCRIPTS[local_name(node)] if words else "")
        self._words("{" if len(words) > 1 else "")
        self._inside(node, depth)
        self._words("}" if len(words) > 1 else "")

    def _newline(self, node: "_Element", depth: int) -> None:
        if self._in_cell:
            self._run.add(" ")
        else:
            self._run.line()

    def _space(self, node: "_Element", depth: int) -> None:
        self._run.add(" ")

    def _verbatim(self, node: "_Element", depth: int) -> None:
        self._break(2)
        self._run.add_verbatim("".join(map(str, node.itertext())).strip("\n"))
        self._break(2)


_METHODS: dict[str, Callable[[_Reader, "_Element", int], None]] = {
    "figure": _Reader._figure,
    "subfigure": _Reader._figure,
    "media": _Reader._media,
    "image": _Reader._picture,
    "list": _Reader._list,
    "exercise": _Reader._exercise,
    "quote": _Reader._quote,
    "table": _Reader._table,
    "definition": _Reader._definition,
    "link": _Reader._link,
    "math": _Reader._math,
    "footnote": _Reader._footnote,
    "sup": _Reader._script,
    "sub": _Reader._script,
    "newline": _Reader._newline,
    "space": _Reader._space,
    "preformat": _Reader._verbatim,
}


def _number(at: int, style: str) -> str:
    """The mark of item number `at`, from 1."""
    if style.endswith("alpha") and at <= 26:
        return f"{chr(ord('A' if style.startswith('upper') else 'a') + at - 1)}. "
    return f"{at}. "
