"""What the numbered things of a CNXML module are called in references to them."""

from typing import TYPE_CHECKING

from mmpt.data.formats.xml_tree import local_name, words_of

if TYPE_CHECKING:
    from lxml.etree import _Element

_NUMBERED = {"figure": "Figure", "table": "Table", "example": "Example", "exercise": "Exercise", "equation": "Equation"}


class Labels:
    """Of one module: its `title`, and for each id the name under which text refers to it, such as "Figure 2".

    Numbers are those within the module: a module is a document, and its readers count what they see.
    """

    def __init__(self, root: "_Element") -> None:
        title = root.find("{*}title")
        self.title_node = title if words_of(title) else root.find("{*}metadata/{*}title")
        self.title = words_of(self.title_node)
        self.names: dict[str, str] = {}
        self._numbers: dict[_Element, str] = {}
        counts = dict.fromkeys(_NUMBERED, 0)
        for node in root.iter("{*}*"):
            kind, name = local_name(node), words_of(node.find("{*}title"))
            if kind in _NUMBERED and not is_subfigure(node):
                counts[kind] += 1
                word = words_of(node.find("{*}label")) if kind in ("figure", "table") else ""
                name = self._numbers[node] = f"{word or _NUMBERED[kind]} {counts[kind]}"
            if name and (identifier := node.get("id")):
                self.names.setdefault(identifier, name)
            # What refers to a medium means the figure around it.
            elif kind in ("media", "image", "subfigure") and (identifier := node.get("id")):
                around = next((one for one in node.iterancestors() if one in self._numbers), None)
                if around is not None:
                    self.names.setdefault(identifier, self._numbers[around])

    def name_of(self, node: "_Element") -> str:
        """The name of a numbered element."""
        return self._numbers[node]


def is_subfigure(node: "_Element") -> bool:
    """Whether a figure is part of another one."""
    return local_name(node) == "subfigure" or (parent := node.getparent()) is not None and local_name(parent) == "figure"
