"""Textbooks in CNXML: does every figure, alternative text, caption and word of a module get into its document, once, in order.

    python datasets/benches/textbooks.py [FOLDER ...]

The books (default: ../shared/data/textbooks) are read by the source, and anew by XPath and the text nodes of lxml alone; then
damaged ones: bytes cut out, flipped and put twice, and files of entities. Writes datasets/results/textbooks.json.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from all_tools.sets import without_tex, words
from lxml import etree

from mmpt.data.lost import Lost
from mmpt.data.sources.openstax import Openstax
from mmpt.document import Document, Image, Text
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "textbooks.json"
DAMAGED = 300
BLOCKS = {
    "para", "section", "note", "example", "exercise", "problem", "solution", "commentary", "equation", "figure", "table", "list",
    "quote", "definition", "meaning", "item", "title", "label", "caption", "row", "entry", "newline", "footnote", "sup", "sub",
    "media", "space", "preformat",
}  # fmt: skip
NUMBERED = ("figure", "table", "example", "exercise", "equation")
BOMBS = (
    '<!DOCTYPE document [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><document><content>&b;</content></document>',
    '<!DOCTYPE document [<!ENTITY x SYSTEM "file:///etc/hostname">]><document><content>&x;</content></document>',
    '<!DOCTYPE document [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]><document><content><para>a</para></content></document>',
    '<!DOCTYPE document SYSTEM "file:///etc/hostname" [<!ENTITY x "y">]><document title="&x;"><content>a</content></document>',
    "<document><content>&undeclared;</content></document>",
    "<a>" * 5000 + "</a>" * 5000,
    "<html><body>no CNXML</body></html>",
    "",
)
"""Files of entities, of depth, and of nothing: none may become a document."""


class Seen(NamedTuple):
    """Of a module, by lxml alone: (reference, alternative text) of each picture, captions, and the words."""

    pictures: list[tuple[str, str]]
    captions: list[str]
    words: list[str]


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", default=[ROOT.parent / "shared/data/textbooks"])
    parser.add_argument("--result", type=Path, default=RESULT, help="the file of the figures")
    arguments = parser.parse_args()
    counts = Counter()
    for folder in arguments.folders:
        counts += compared(folder)
    counts += damaged(arguments.folders[0])
    figures = [Figure(name, counts[name]) for name in ("modules", "pictures", "captions", "words")]
    figures += [
        Figure(name, counts[name], 0, at_most=True)
        for name in (
            "modules without a document",
            "pictures or alternative texts that differ",
            "missing pictures not listed",
            "captions not beside their figure",
            "modules whose words differ",
            "tracebacks",
            "entities or foreign files read",
        )
    ]
    figures += [Figure(name, counts[name]) for name in ("missing pictures, listed", "damaged files", "damaged files refused")]
    sys.exit(0 if report(figures, arguments.result, ("lxml",)) else 1)


def compared(folder: Path) -> Counter:
    found = list(Openstax(folder=str(folder), name="books").documents())
    documents = {one.meta["path"]: one for one in found if isinstance(one, Document)}
    lost = Counter(one.item for one in found if isinstance(one, Lost) and one.part == "image")
    counts = Counter()
    for path in sorted(folder.rglob("index.cnxml")):
        name = str(path.relative_to(folder))
        seen, document = reading(path), documents.get(name)
        counts["modules"] += 1
        counts["pictures"] += len(seen.pictures)
        counts["captions"] += len(seen.captions)
        counts["words"] += len(seen.words)
        if document is None:
            counts["modules without a document"] += 1
            continue
        there = [(target, alt) for target, alt in seen.pictures if (path.parent / target).is_file()]
        for target, _ in seen.pictures:
            if not (path.parent / target).is_file():
                told = sum(name in item and target in item for item in lost)
                counts["missing pictures, listed" if told else "missing pictures not listed"] += 1
        got = [(one.data, one.alt) for one in document.parts if isinstance(one, Image)]
        wanted = [((path.parent / target).read_bytes(), alt) for target, alt in there]
        counts["pictures or alternative texts that differ"] += sum(a != b for a, b in zip(got, wanted, strict=False))
        counts["pictures or alternative texts that differ"] += abs(len(got) - len(wanted))
        counts["captions not beside their figure"] += captions_apart(document, seen.captions)
        text = " ".join(part.text for part in document.parts if isinstance(part, Text))
        if (own := words(without_tex(text))) != seen.words:
            counts["modules whose words differ"] += 1
            print(name, difference(own, seen.words))
    return counts


def difference(got: list[str], wanted: list[str]) -> str:
    place = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    return f"{' '.join(got[place - 5 : place + 8])} | {' '.join(wanted[place - 5 : place + 8])}"


def captions_apart(document: Document, captions: list[str]) -> int:
    """How many captions are not in the text right after a picture, in order; those of missing pictures are in any text."""
    texts = [" ".join(words(without_tex(part.text))) if isinstance(part, Text) else None for part in document.parts]
    place = apart = 0
    for caption in captions:
        after = [n for n in range(place, len(texts)) if texts[n] is not None and caption in texts[n]]
        apart += not after
        place = after[0] if after else place
    return apart


def reading(path: Path) -> Seen:
    """A module by XPath and text nodes; what readers see beside the file's words (numbers, names of references) is put in."""
    root = etree.parse(str(path), etree.XMLParser(remove_comments=True, remove_pis=True)).getroot()
    for node in root.iter("{*}*"):
        node.tag = etree.QName(node).localname
    pictures = [
        (image.get("src"), " ".join((image.xpath("string((ancestor::media/@alt)[last()])") or image.get("alt") or "").split()))
        for image in root.xpath("//image")
    ]
    names = {}
    for kind in NUMBERED:
        for number, node in enumerate(root.xpath(f"//{kind}[not(parent::figure)]"), 1):
            names[node] = f"{kind.title()} {number}"
    for link in root.xpath("//link[not(node())]"):
        link.text = reference(link, path, names)
    for number, exercise in enumerate(root.xpath("//exercise"), 1):
        if words(text_of(exercise)):  # else a server fills it
            exercise.text = f"{number} {exercise.text or ''}"
    for node in root.xpath("//mmultiscripts/mprescripts"):  # what stands after it is shown before the base
        node.getparent()[:] = [*node.itersiblings(), *reversed([*node.itersiblings(preceding=True)])]
    for parent in root.xpath("//list[@list-type='enumerated']"):
        for number, item in enumerate(parent.xpath("item"), int(parent.get("start-value", 1))):
            if not parent.xpath("ancestor::entry"):
                letter = chr(96 + number).upper() if parent.get("number-style") == "upper-alpha" else chr(96 + number)
                item.text = f"{letter if 'alpha' in parent.get('number-style', '') else number} {item.text or ''}"
    for node in (*root.xpath("//figure[not(parent::figure)]"), *root.xpath("//table")):
        node.text = f" {names[node]} {node.text or ''}"
    shown = [*root.xpath("/document/title"), *root.xpath("/document/metadata/abstract | /document/content | /document/glossary")]
    if not words(text_of(shown[0])):
        shown[0] = root.xpath("/document/metadata/title")[0]
    captions = [" ".join(words(text_of(one))) for one in root.xpath("//caption")]
    return Seen(pictures, captions, [word for node in shown for word in words(text_of(node))])


def reference(link, path: Path, names: dict) -> str:
    """What a link without words is called: a number or a title in its own module, or in the one that it names."""
    target, document = link.get("target-id"), link.get("document")
    if link.get("url"):
        return "" if link.get("url").startswith("#") else link.get("url")
    root = link.getroottree().getroot()
    if document and document != path.parent.name:
        other = path.parent.parent / document / "index.cnxml"
        if not other.is_file():
            return ""
        tree = etree.parse(str(other))
        title = tree.xpath("string(/*/*[local-name()='title'])")
        kind = tree.xpath("local-name(//*[@id=$id])", id=target or "")
        number = tree.xpath(f"count(//*[@id=$id]/preceding::*[local-name()='{kind}'])", id=target or "")
        return f"{kind.title()} {number + 1:.0f} {title}" if kind in NUMBERED else title
    for node in root.xpath("//*[@id=$id]", id=target or ""):
        around = [names[one] for one in (node, *node.iterancestors()) if one in names]
        if node in names or node.tag in ("media", "image"):
            return around[0] if around else ""
        return node.xpath("string(title)")
    return ""


def text_of(node) -> str:
    """The text nodes in order; those of blocks, and of each sign of a formula, are words of their own."""
    apart = " " if node.tag in BLOCKS or node.xpath("boolean(ancestor-or-self::math)") else ""
    inside = "" if node.tag in ("image", "metadata") else (node.text or "")
    inside += "".join(text_of(child) + (child.tail or "") for child in node)
    return apart + inside + ("" if node.tag in ("sup", "sub") and len(inside) == 1 else apart)  # x_2 and what follows: one word


def damaged(folder: Path) -> Counter:
    """Files with holes, with bytes that are others, with pieces twice: refused with a reason, or read; nothing else."""
    counts = Counter({"damaged files": DAMAGED + len(BOMBS)})
    draw = random.Random(0)
    whole = [path.read_bytes() for path in draw.sample(sorted(folder.rglob("index.cnxml")), 20)]
    host = Path("/etc/hostname").read_text().strip() if Path("/etc/hostname").exists() else "\0"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "modules" / "m1" / "index.cnxml"
        path.parent.mkdir(parents=True)
        for number in range(DAMAGED + len(BOMBS)):
            data = BOMBS[number].encode() if number < len(BOMBS) else spoiled(draw.choice(whole), draw)
            path.write_bytes(data)
            try:
                found = list(Openstax(folder=temporary).documents())
            except Exception as problem:
                counts["tracebacks"] += 1
                print(number, repr(problem))
                continue
            texts = [part.text for one in found if isinstance(one, Document) for part in one.parts if isinstance(part, Text)]
            counts["entities or foreign files read"] += number < len(BOMBS) and bool(texts) or any(host in text for text in texts)
            counts["damaged files refused"] += any(isinstance(one, Lost) and one.whole and bool(one.reason) for one in found)
    return counts


def spoiled(data: bytes, draw: random.Random) -> bytes:
    first = draw.randrange(len(data))
    last = min(len(data), first + draw.choice([1, 10, 1000, len(data)]))
    return draw.choice([
        data[:first] + data[last:],
        data[:first] + draw.randbytes(last - first) + data[last:],
        data[:last] + data[first:],
        data[:first] + b"<" + data[first:],
        data.replace(b"</", b"<", 1),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
