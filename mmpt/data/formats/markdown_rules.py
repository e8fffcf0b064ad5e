"""Ways to write a picture or a block in Markdown that CommonMark does not know, as rules of markdown-it.

Obsidian's `![[a.png]]`, shortcodes of Hugo and Jekyll, JSX elements (MDX), addresses with spaces or a size, attribute lists of
kramdown and Python-Markdown, and the indented blocks of MkDocs.
"""

import re
from html import escape

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from mmpt.data.formats.references import is_picture_file

_ITEM = r"""(?:[.#][\w:-]+|[\w:-]+=(?:"[^"\n]*"|'[^'\n]*'|[^\s"'{}]+)|[\w-]+)"""
_ATTRIBUTES = re.compile(rf"\{{:[^{{}}<>!\n]*\}}|\{{[ \t]*{_ITEM}(?:[ \t]+{_ITEM}){{0,20}}[ \t]*\}}")
_WIKI = re.compile(r"!\[\[([^\[\]|#\n]{1,500})(?:#[^\[\]|\n]{0,200})?(?:\|([^\[\]\n]{0,500}))?\]\]")
_SHORTCODE = re.compile(r"\{\{[<%]\s*([\w./-]+)\s([^{}\n]{0,2000}?)[%>]\}\}|\{%-?\s*(\w+)\s([^{}\n]{0,2000}?)-?%\}")
_PAIR = re.compile(r"""(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""")
_LOOSE = re.compile(r"\(([^()\n]{0,1000}(?:\([^()\n]{0,500}\)[^()\n]{0,500})?)\)")
_SIZE = re.compile(r"[ \t]+=\d*%?x?\d*%?[ \t]*$")
_TITLE = re.compile(r"""[ \t]+(?:"[^"]*"|'[^']*')[ \t]*$""")
_LIQUID = re.compile(r"\{\{\s*([^{}]*)\}\}")
_QUOTED = re.compile(r"""["'`]([^"'`]*)["'`]""")
_JSX_VALUE = r"""(?:"[^"]*"|'[^']*'|\{(?:[^{}]|\{[^{}]*\}){0,500}\})"""
_JSX = re.compile(rf"<[A-Za-z][\w.]*(?:\s+[\w:-]+(?:={_JSX_VALUE})?|\s+\{{[^{{}}]{{0,200}}\}}){{1,50}}\s*/?>")
_JSX_ATTRIBUTE = re.compile(r"""([\s"'}])(src|srcSet|srcset|alt|poster|data)=\{((?:[^{}]|\{[^{}]*\}){0,500})\}""")
_BLOCK = re.compile(r"""(?:!!!|\?\?\?\+?)[ \t]+\S.*|===[!+]*[ \t]+["'].*["'][ \t]*""")
_LONGEST_ALT = 1000
BODY = "    "
"""How far in the body of a block lies."""


def add_rules(md: MarkdownIt) -> None:
    """Add all of them. Their tokens are `picture` (attributes src and alt, and anywhere), `html_inline` and `body_open`."""
    md.inline.ruler.before("link", "attributes", _attributes)
    md.inline.ruler.before("link", "shortcode", _shortcode)
    md.inline.ruler.before("image", "wiki", _wiki)
    md.inline.ruler.after("image", "loose", _loose)
    md.inline.ruler.before("html_inline", "jsx", _jsx)
    md.inline.ruler.before("html_inline", "exclamation", _exclamation)
    md.block.ruler.before("fence", "indented", _indented, {"alt": ["paragraph", "reference", "blockquote", "list"]})


def plain_jsx(html: str, imports: dict[str, str]) -> str:
    """HTML in which `src={…}` is `src="…"`: a name that was imported, or the text within the expression, else as it stands."""

    def value(match: re.Match) -> str:
        expression = match[3].strip()
        quoted = _QUOTED.search(expression)
        found = imports.get(expression) or (quoted[1] if quoted else "{" + expression + "}")
        return f'{match[1]}{match[2]}="{escape(found)}"'

    return _JSX_ATTRIBUTE.sub(value, html) if "={" in html else html


def _attributes(state: StateInline, silent: bool) -> bool:
    """`{: …}` after what it is about, or on a line of its own; `{ … }` after a link or picture. Of a picture `alt` is kept, as
    the lessons of The Carpentries have it, and Quarto's `fig-alt`."""
    if state.src[state.pos] != "{":
        return False
    match = _ATTRIBUTES.match(state.src, state.pos, state.posMax)
    before = state.src[state.pos - 1] if state.pos else "\n"
    if not match:
        return False
    if match[0][1] == ":":
        line = state.src[state.src.rfind("\n", 0, state.pos) + 1 : state.pos].strip(" \t")
        ends = state.src[match.end() : state.posMax].partition("\n")[0].strip(" \t")
        if before not in ")]*_`>" and (line or ends):
            return False
    elif before != ")":
        return False
    if not silent and before == ")" and not state.pending and state.tokens and state.tokens[-1].type in ("image", "picture"):
        pairs = {name: one or two or three for name, one, two, three in _PAIR.findall(match[0][1:-1])}
        state.tokens[-1].meta["alt"] = pairs.get("alt", "")
    state.pos = match.end()
    return True


def _shortcode(state: StateInline, silent: bool) -> bool:
    """A shortcode that names a picture file: the first such value, or the one called src."""
    if state.src[state.pos] != "{":
        return False
    match = _SHORTCODE.match(state.src, state.pos, state.posMax)
    if not match:
        return False
    arguments = match[2] or match[4] or ""
    pairs = {name: one or two or three for name, one, two, three in _PAIR.findall(arguments)}
    found = [value for value in [pairs.get("src", ""), *pairs.values(), *re.split(r"""[\s"']+""", arguments)]]
    target = next((value for value in found if is_picture_file(value)), "")
    if not target:
        return False
    return _push(state, silent, match.end(), target, pairs.get("alt") or pairs.get("caption") or pairs.get("title") or "")


def _wiki(state: StateInline, silent: bool) -> bool:
    match = _WIKI.match(state.src, state.pos, state.posMax) if state.src.startswith("![[", state.pos) else None
    if not match or not is_picture_file(match[1]):
        return False
    alt = "" if re.fullmatch(r"[\dx\s|]*", match[2] or "") else match[2]
    return _push(state, silent, match.end(), match[1].strip(), alt, anywhere=True)


def _loose(state: StateInline, silent: bool) -> bool:
    """`![x](a b.png)` and `![x](a.png =200x100)`, and addresses with expressions of Liquid in them."""
    if not state.src.startswith("![", state.pos) or state.src.find("](", state.pos, state.pos + _LONGEST_ALT) < 0:
        return False
    label = state.md.helpers.parseLinkLabel(state, state.pos + 1, False)
    match = _LOOSE.match(state.src, label + 1, state.posMax) if label >= 0 else None
    if not match:
        return False
    target = _SIZE.sub("", _TITLE.sub("", _SIZE.sub("", match[1]))).strip().strip("<>")
    target = _LIQUID.sub(lambda part: (_QUOTED.search(part[1]) or ["", ""])[1], target).strip()
    if not is_picture_file(target):
        return False
    alt = re.sub(r"\\([\W_])", r"\1", state.src[state.pos + 2 : label])
    return _push(state, silent, match.end(), target, alt)


def _jsx(state: StateInline, silent: bool) -> bool:
    """An element with a value in braces, which HTML does not have."""
    if state.src[state.pos] != "<":
        return False
    match = _JSX.match(state.src, state.pos, state.posMax)
    if not match or "{" not in match[0]:
        return False
    if not silent:
        state.push("html_inline", "", 0).content = match[0]
    state.pos = match.end()
    return True


def _exclamation(state: StateInline, silent: bool) -> bool:
    """`<!a` is text, as in GitHub's Markdown: CommonMark takes all to the next `>` for a declaration."""
    if not re.match(r"<![a-z]", state.src[state.pos : state.pos + 3]):
        return False
    if not silent:
        state.pending += "<"
    state.pos += 1
    return True


def _push(state: StateInline, silent: bool, end: int, target: str, alt: str, anywhere: bool = False) -> bool:
    if not silent:
        token = state.push("picture", "img", 0)
        attributes: dict[str, str | int | float] = {"src": target, "alt": alt}
        token.attrs = attributes | ({"anywhere": "1"} if anywhere else {})
    state.pos = end
    return True


def _indented(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`!!! note "Title"` and `=== "Tab"`, whose body is four spaces in."""
    if state.is_code_block(start):
        return False
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if line[:3] not in ("!!!", "???", "===") or not _BLOCK.fullmatch(line):
        return False
    after = state.skipEmptyLines(start + 1)
    inner = state.sCount[start] + len(BODY)
    if after >= end or state.sCount[after] < inner:
        return False
    if silent:
        return True
    last = after
    for number in range(after, end):
        if not state.isEmpty(number):
            if state.sCount[number] < inner:
                break
            last = number + 1
    outer, kind, limit = state.blkIndent, state.parentType, state.lineMax
    state.push("paragraph_open", "p", 1).map = [start, start + 1]
    title = state.push("inline", "", 0)
    title.content, title.map, title.children = line, [start, start + 1], []
    state.push("paragraph_close", "p", -1)
    state.push("body_open", "div", 1).map = [after, last]
    state.blkIndent, state.parentType, state.lineMax = inner, "indented", last
    state.md.block.tokenize(state, after, last)
    state.push("body_close", "div", -1)
    state.blkIndent, state.parentType, state.lineMax = outer, kind, limit
    state.line = last
    return True
