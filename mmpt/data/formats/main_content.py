"""What of a page is its own: the text without menus, footers and advertisements, with its pictures in place."""

import re
from collections.abc import Iterator

from mmpt.data.extra import need
from mmpt.data.formats import html_pictures
from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.references import Picture

_MARK = "https://picture.invalid/{}.png"
_MARKED = re.compile(r"https://picture\.invalid/(\d+)\.png")
_FIGURES = re.compile(r"<(/?)(figure|figcaption)\b[^>]*>", re.IGNORECASE)


def main_content(page: Page, precise: bool = False) -> tuple[str, str, Iterator[str | Picture], int]:
    """(title, language, its main content as `html_blocks` gives it, how many pictures are not in that) of a page.

    trafilatura chooses; pictures go through it as marks, since it knows only references that end with a picture's suffix.
    """
    title, language = page.first("head > title"), page.root.attributes.get("lang") or ""
    pictures = _marked(page)
    # Captions of figures are dropped otherwise.
    source = _FIGURES.sub(lambda match: f"<{match[1]}{'div' if match[2].lower() == 'figure' else 'p'}>", page.root.html or "")
    found = need("trafilatura", "documents").extract(
        source,
        output_format="html",
        include_images=True,
        include_formatting=True,
        include_tables=True,
        include_comments=False,
        favor_precision=precise,
    )
    blocks = [_unmarked(block, pictures) for block in html_blocks(Page(found or ""))]
    there = {id(block) for block in blocks}
    gone = sum(id(picture) not in there for picture in pictures)
    return " ".join(title.text().split()) if title else "", language.split("-")[0].lower(), iter(blocks), gone


def _marked(page: Page) -> list[Picture]:
    """The pictures of a page's tree, whose elements refer to their numbers from here on."""
    found: list[Picture] = []
    for node in page.root.css("img"):
        inside = node.parent is not None and node.parent.tag == "picture"
        shown = html_pictures.chosen(page, node) if inside else html_pictures.image(page, node)
        if shown is None:
            continue
        picture = shown.picture()
        for name in list(node.attributes):
            del node.attrs[name]
        node.attrs["src"] = _MARK.format(len(found))
        found.append(picture)
    return found


def _unmarked(block: str | Picture, pictures: list[Picture]) -> str | Picture:
    if isinstance(block, str) or not block.targets:
        return block
    match = _MARKED.fullmatch(block.targets[0])
    return pictures[int(match[1])] if match and int(match[1]) < len(pictures) else block
