"""What a browser shows of a page, by libraries that the sources do not use: html5lib, and cmark-gfm for Markdown."""

import re
import warnings

import cmarkgfm
import html5lib
from cmarkgfm.cmark import Options

_HIDDEN = {"head", "script", "style", "template", "noscript", "iframe"}


def rendered(markdown: str) -> str:
    """HTML of Markdown as GitHub's renderer makes it, with the HTML in it."""
    return cmarkgfm.markdown_to_html_with_extensions(markdown, Options.CMARK_OPT_UNSAFE, extensions=["table", "strikethrough"])


def shown(html: str) -> list[str]:
    """The words such as w12 and the references to pictures, in the order in which a browser has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = html5lib.parse(html, namespaceHTMLElements=False)
    found: list[str] = []
    left: list = [tree]
    while left:
        node = left.pop()
        if isinstance(node, str):
            found += re.findall(r"(?<![a-z\d])w\d+(?!\d)", node)
            continue
        if not isinstance(node.tag, str) or node.tag in _HIDDEN:
            left += [node.tail or ""]
            continue
        if node.tag == "img":
            found.append(_largest(node))
        elif node.tag == "picture":
            found.append(
                next((_largest(one) for one in node.iter() if one.tag in ("source", "img") and not one.get("media")), "")
            )
        elif node.tag == "input" and node.get("type") == "image" or node.tag == "embed":
            found.append(node.get("src", ""))
        elif node.tag == "object":
            found.append(node.get("data", ""))
        elif node.tag == "video" and node.get("poster"):
            found.append(node.get("poster"))
        left.append(node.tail or "")
        if node.tag not in ("picture", "object"):
            left += [*reversed(node), node.text or ""]
    return [one for one in found if one]


def _largest(node) -> str:
    """The reference of the largest candidate."""
    sets = [one.split() for one in node.get("srcset", "").split(", ") if one.strip()]
    if sets:
        return max(sets, key=lambda one: float(one[1][:-1]) if len(one) > 1 else 1.0)[0]
    return node.get("src", "").strip()
