"""Public repositories of documents, each against another library: is every picture and every word in its set, or listed?

    python datasets/benches/documents.py --markdown FOLDER --notebooks FOLDER --rst FOLDER --pdf FOLDER --epub FOLDER

Markdown is counted by cmark-gfm and html5lib, notebooks by these and json, reStructuredText by regular expressions, PDF by pypdf,
EPUB by EbookLib and html5lib: the sources use none of these. Each folder goes through build, lint, stats, view, score, select,
dedup (of documents, and of pictures by their embeddings) and to_tokens, and what is counted is what the sets hold. Measured
(results/documents.json): datacarpentry/image-processing 4da0c08a (CC BY, Markdown), jakevdp/PythonDataScienceHandbook d6623145
(CC BY-NC-ND, notebooks), spyder-ide/spyder-docs 8ebd37b6 (MIT, `doc/`), py-pdf/sample-files 6921079e (CC BY-SA), and
IDPF/epub3-samples 7651e200, whose folders are zipped as they lie; files above some megabytes (a PDF, sounds and films of EPUBs)
were not there. Writes datasets/results/documents.json, in which figures of kinds not named stay.
"""

import base64
import hashlib
import json
import re
import sys
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urljoin

import html5lib
import pypdf
from all_tools.chain import through
from all_tools.sets import records, tool, write
from ebooklib import ITEM_DOCUMENT, epub
from page_cases.reference import rendered

from mmpt.data.lost import LOST_FILE, from_lines
from mmpt.data.sources.shards import Shards
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "documents.json"


class Seen(NamedTuple):
    """What another library sees in a file: hashes of pictures that are there (or, where bytes change, only their number), and
    words."""

    pictures: list[str]
    words: Counter
    number: int = 0


Reading = Callable[[Path], Iterator[tuple[str, Seen]]]
"""The path of each file of a folder, and what is in it."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    for kind in READINGS:
        parser.add_argument(f"--{kind}", type=Path, metavar="FOLDER", help=f"a folder for source {kind}")
    parser.add_argument("--result", type=Path, default=RESULT, help="the file of the figures")
    arguments = parser.parse_args()
    folders = {kind: folder for kind in READINGS if (folder := getattr(arguments, kind))}
    if not folders or (missing := [str(folder) for folder in folders.values() if not folder.is_dir()]):
        raise ConfigError(f"expected folders that are there, not {', '.join(missing) if folders else 'none'}")
    figures = [figure for kind, folder in folders.items() for figure in measured(kind, folder.resolve())]
    if RESULT.exists() and arguments.result == RESULT:
        rows = json.loads(RESULT.read_text())["figures"]
        before = [Figure(row["name"], row["value"], row["bar"], row["at_most"]) for row in rows]
        figures += [one for one in before if one.name.partition(": ")[0] not in folders]
    figures.sort(key=lambda one: [*READINGS].index(one.name.partition(": ")[0]))
    packages = ("nbformat", "docutils", "pypdfium2", "pypdf", "EbookLib", "html5lib", "cmarkgfm")
    sys.exit(0 if report(figures, arguments.result, packages) else 1)


def measured(kind: str, folder: Path) -> list[Figure]:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        spec = {"sources": [{"kind": kind, "folder": str(folder), "name": "x"}]}
        tool(place, "build.py", write(place, "spec.yaml", spec), "raw", "--processes", "1", "--max-lost", "1")
        problems = tool(place, "lint.py", "raw").count("\n") - 1
        tool(place, "stats.py", "raw")
        tool(place, "view.py", "raw", "page.html")
        gone = from_lines((place / "raw" / LOST_FILE).read_bytes())
        documents = [one for one in Shards(folder=str(place / "raw")).documents() if isinstance(one, Document)]
        page = (place / "page.html").read_text()
        after, off = through(place, records(place / "raw"))
    count = compared(kind, folder, documents, gone)
    return [
        Figure(f"{kind}: files", count["files"]),
        Figure(f"{kind}: documents", len(documents)),
        Figure(f"{kind}: problems that lint finds", problems, 0, at_most=True),
        Figure(f"{kind}: pictures on the page of view.py", page.count("<img"), 1),
        Figure(f"{kind}: pictures another library sees", count["pictures"]),
        Figure(f"{kind}: pictures in the set", count["there"]),
        Figure(f"{kind}: pictures neither in the set, in order, nor listed", count["missed"], 0, at_most=True),
        Figure(f"{kind}: words another library sees", count["words"]),
        Figure(f"{kind}: share of them in the set", round(count["found"] / max(1, count["words"]), 5), BARS[kind]),
        Figure(f"{kind}: files neither in the set nor listed", count["unlisted"], 0, at_most=True),
        Figure(f"{kind}: things listed as lost", len(gone)),
        *(Figure(f"{kind}: {one.name}", one.value, one.bar, one.at_most) for one in after),
        Figure(f"{kind}: tools whose counts are off", sum(map(bool, off.values())), 0, at_most=True),
    ]


def compared(kind: str, folder: Path, documents: list[Document], lost: list) -> Counter:
    by_file: dict[str, list[Document]] = {}
    for one in documents:
        by_file.setdefault(one.meta["path"], []).append(one)
    count: Counter = Counter()
    for name, seen in READINGS[kind](folder):
        count["files"] += 1
        own = by_file.get(name, [])
        listed = sum(name in one.item for one in lost)
        count["unlisted"] += not own and not listed
        parts = [part for document in own for part in document.parts]
        got = [part for part in parts if isinstance(part, Image)]
        count["there"] += len(got)
        wanted = len(seen.pictures) or seen.number
        count["pictures"] += wanted
        if seen.pictures:
            missed = not_in_order([hashlib.sha256(part.data).hexdigest() for part in got], seen.pictures)
        else:
            missed = max(0, wanted - len(got) - small(name, lost))
        bad = sum(name in one.item and one.part == "image" for one in lost)
        count["missed"] += max(0, missed - bad) if own or not listed else 0
        words = Counter(words_of(" ".join(part.text for part in parts if isinstance(part, Text))))
        if missing := seen.words - words:
            print(name, missing.total(), dict(missing.most_common(6)), file=sys.stderr)
        count["words"] += seen.words.total()
        count["found"] += (seen.words & words).total()
    return count


def small(name: str, lost: list) -> int:
    """Pictures that a rule counts for a page in one line."""
    return sum(int(one.reason.split()[0]) for one in lost if name in one.item and one.rule == "small")


def not_in_order(got: list[str], wanted: list[str]) -> int:
    """How many of `wanted` are not in `got` behind the one before them."""
    place = missed = 0
    for one in wanted:
        if one in got[place:]:
            place = got.index(one, place) + 1
        else:
            missed += 1
    return missed


def words_of(text: str) -> list[str]:
    """Words, ligatures as letters, without the marks of Markdown that may stand within a word."""
    return re.findall(r"[^\W_]+", re.sub(r"[`*]", "", unicodedata.normalize("NFKC", text)))


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def browsed(html: str) -> tuple[list[str], str]:
    """(references to pictures in order, text) of a page, by html5lib."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = html5lib.parse(html, namespaceHTMLElements=False)
    pictures, texts = [], []

    def visit(node) -> None:
        hidden = not isinstance(node.tag, str) or node.tag.rpartition("}")[2] in HIDDEN
        if not hidden and node.get("hidden") is None:
            reference = node.get("src") if node.tag == "img" else None
            if reference:
                pictures.append(reference)
            texts.append(node.text or "")
            for child in node:
                visit(child)
        texts.append(node.tail or "")
        texts.append("" if node.tag in INLINE else " ")

    visit(tree)
    return pictures, "".join(texts)


RASTER = (".png", ".jpg", ".jpeg", ".webp")
HIDDEN = {"head", "script", "style", "nav", "template", "audio", "video", "svg"}
INLINE = {
    "a",
    "b",
    "i",
    "em",
    "strong",
    "span",
    "code",
    "sup",
    "sub",
    "small",
    "abbr",
    "tt",
    "q",
    "u",
    "cite",
    "dfn",
    "wbr",
    "font",
}


def notebooks(folder: Path) -> Iterator[tuple[str, Seen]]:
    for path in sorted(folder.rglob("*.ipynb")):
        pictures, texts = [], []
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                references, text = browsed(rendered(source))
                files = [path.parent / unquote(one) for one in references if not re.match(r"[a-z]+:", one)]
                pictures += [hashed(file.read_bytes()) for file in files if file.is_file()]
                texts.append(text)
            elif cell["cell_type"] == "code":
                texts.append(source)
                for output in cell["outputs"]:
                    data = output.get("data", {})
                    if "image/png" in data:
                        pictures.append(hashed(base64.b64decode("".join(data["image/png"]))))
                    else:
                        texts.append("".join(output.get("text", data.get("text/plain", []))))
        yield str(path.relative_to(folder)), Seen(pictures, Counter(words_of(without_escapes(" ".join(texts)))))


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def markdown(folder: Path) -> Iterator[tuple[str, Seen]]:
    """Pages as cmark-gfm and a browser read them, without the YAML before them and the attributes of pandoc and kramdown."""
    for path in sorted(folder.rglob("*.md")):
        text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"(?<=\))\{[^}]*\}|\{:[^}]*\}", "", text)
        references, shown = browsed(rendered(text))
        files = [path.parent / unquote(one) for one in references if not re.match(r"[a-z]+:", one)]
        there = [hashed(file.read_bytes()) for file in files if file.is_file() and file.suffix.lower() in RASTER]
        yield str(path.relative_to(folder)), Seen(there, Counter(words_of(shown)))


def restructured(folder: Path) -> Iterator[tuple[str, Seen]]:
    """The directives of pictures, and the words of lines that are neither directives nor their options."""
    for path in sorted(folder.rglob("*.rst")):
        text = path.read_text(encoding="utf-8")
        pictures = []
        for target in re.findall(r"^[ \t]*\.\. (?:\|[^|]+\| )?(?:image|figure):: *(\S+)", text, re.MULTILINE):
            file = folder / target.lstrip("/") if target.startswith("/") else path.parent / target
            if file.is_file() and file.suffix in RASTER:
                pictures.append(hashed(file.read_bytes()))
        lines = re.sub(
            r"^( *)\.\. (?:toctree|raw|video|youtube|meta|index)::.*\n(?:(?:\1 +.*)?\n)*", "", text, flags=re.MULTILINE
        )
        kept = [line for line in lines.splitlines() if not re.match(r"\s*(?:\.\. |:[\w-]+:(?: |$))", line)]
        plain = re.sub(r":[\w:+-]+:`([^`]*?)(?:\s*<[^`]*>)?`|`([^`]*?)\s*<[^`]*>`_+|\|[^|\n]+\|", r"\1 \2", "\n".join(kept))
        yield str(path.relative_to(folder)), Seen(pictures, Counter(words_of(plain)))


def portable(folder: Path) -> Iterator[tuple[str, Seen]]:
    for path in sorted(folder.rglob("*.pdf")):
        number, words = 0, Counter()
        try:
            for page in pypdf.PdfReader(path).pages:
                words.update(words_of(page.extract_text()))
                number += len({image.name for image in page.images})
        except Exception as problem:  # some of the files are there to be refused
            print(path.name, repr(problem), file=sys.stderr)
        yield str(path.relative_to(folder)), Seen([], words, number)


def books(folder: Path) -> Iterator[tuple[str, Seen]]:
    for path in sorted(folder.rglob("*.epub")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                book = epub.read_epub(str(path))
            except Exception as problem:  # a file that the package names is not there
                print(path.name, repr(problem), file=sys.stderr)
                continue
        content = {item.get_name(): item for item in book.get_items()}
        pictures, words = [], Counter()
        for identifier, _ in book.spine:
            item = book.get_item_with_id(identifier)
            if item is None or item.get_type() != ITEM_DOCUMENT:
                continue
            data = re.sub(rb"<(script|title|a|i|b|em|span|div|p)([^<>]*)/>", rb"<\1\2></\1>", item.content)
            references, text = browsed(data.decode("utf-8", "replace"))
            for reference in references:
                name = unquote(urljoin(item.get_name(), reference))
                if name in content and PurePosixPath(name).suffix.lower() in RASTER:
                    pictures.append(hashed(content[name].get_content()))
            words.update(words_of(text))
        yield str(path.relative_to(folder)), Seen(pictures, words)


READINGS: dict[str, Reading] = {"markdown": markdown, "notebooks": notebooks, "rst": restructured, "pdf": portable, "epub": books}
BARS = {"markdown": 0.99, "notebooks": 0.99, "rst": 0.98, "pdf": 0.9, "epub": 0.99}
"""Least share of words. pypdf parts words, and reads ligatures, otherwise than pdfium; regular expressions know no roles."""


if __name__ == "__main__":
    main()
