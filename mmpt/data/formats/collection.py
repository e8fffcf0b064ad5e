"""What a collection file says of its book: which modules, in which order, under which titles, with which licence."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mmpt.data.formats.xml_tree import local_name, words_of
from mmpt.errors import DataError

if TYPE_CHECKING:
    from lxml.etree import _Element

_CREATIVE_COMMONS = re.compile(r"https?://creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)(/.*)?")


class Place(NamedTuple):
    """Of a module: the title of its `book`, the titles of the `chapters` around it, outermost first, and what the book says of
    itself; `license` is an SPDX identifier where there is one for it."""

    book: str = ""
    chapters: tuple[str, ...] = ()
    authors: str = ""
    language: str = ""
    license: str = ""


def places(root: "_Element") -> list[tuple[str, Place]]:
    """(Id of a module, its place) in the order of the book. Raises `DataError` where the root is no collection."""
    if local_name(root) != "collection":
        raise DataError(f"<{local_name(root)}>, expected <collection>")
    book = root.find("{*}metadata")
    language = words_of(root.find("{*}metadata/{*}language")) or root.get("{http://www.w3.org/XML/1998/namespace}lang", "")
    license_node = root.find("{*}metadata/{*}license")
    authors = [" ".join(name.split()) for name in root.get("authors", "").split(",")]
    place = Place(
        book=words_of(root.find("{*}metadata/{*}title")),
        authors=", ".join(filter(None, authors)) or _authors(book),
        language=language.split("-")[0].lower(),
        license="" if license_node is None else license_name(license_node.get("url", "")) or words_of(license_node),
    )
    return [(identifier, place._replace(chapters=chapters)) for identifier, chapters in _modules(root, ())]


def license_name(url: str) -> str:
    """The SPDX identifier for a licence's address, such as CC-BY-4.0; of another licence the address."""
    match = _CREATIVE_COMMONS.fullmatch(url.strip())
    return f"CC-{match[1].upper()}-{match[2]}" if match else url.strip()


def _authors(book: "_Element | None") -> str:
    """The authors by `<md:roles>` and `<md:actors>`, as files before 2020 have them."""
    if book is None:
        return ""
    names = {actor.get("userid", ""): words_of(actor.find("{*}fullname")) for actor in book.iterfind("{*}actors/{*}*")}
    roles = " ".join(words_of(role) for role in book.iterfind("{*}roles/{*}role") if role.get("type") == "author")
    return ", ".join(names.get(one) or one for one in roles.split())


def _modules(node: "_Element", chapters: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for child in node:
        if local_name(child) == "module" and (identifier := child.get("document")):
            yield identifier, chapters
        elif local_name(child) == "subcollection":
            yield from _modules(child, (*chapters, words_of(child.find("{*}title"))))
        elif local_name(child) == "content":
            yield from _modules(child, chapters)
