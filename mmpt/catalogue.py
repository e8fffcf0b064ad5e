"""Every family and method of mmpt, read from the files: what it does, where it comes from, how a YAML file asks for it."""

import csv
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from mmpt.errors import ConfigError
from mmpt.methods import Method, families

ARXIV = re.compile(r"arXiv:\d{4}\.\d{4,5}")
REPOSITORY = re.compile(r"(?<![\w/.])(?:github\.com/)?([A-Za-z][\w-]+/[A-Za-z][\w.-]*\w)(?![\w/])")
SITE = re.compile(r"\b[a-z][\w-]*(?:\.[a-z][\w-]*)*\.(?:org|com|io|net|ai|co|edu)\b(?:/[\w./-]*\w)?")
PUBLICATION = re.compile(r"[A-Z][\w'’-]+(?: and [A-Z][\w'’-]+| et al\.)?,? \(?\d{4}\b")
OWN = re.compile(r"\bown\b", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A method: `does` is the first sentence of its docstring, `source` the paper or repository that it names ("own": none),
    `line` a line of YAML that asks for it, with what it needs and has no default for. `carries`: published systems by name."""

    family: str
    kind: str
    does: str
    source: str
    line: str
    carries: tuple[str, ...]


@dataclass(frozen=True)
class PublishedSystem:
    """A row of `papers.tsv`: a published system, how far it can be had here (works, part, library, absent, out) and by which
    commands, files or libraries, methods apart."""

    id: str
    name: str
    status: str
    by: str


def catalogue(name: str | None = None) -> Iterator[Entry]:
    """All methods, or those of the families of that name or YAML key. Every method's file is imported, and what it needs.

    Raises `ConfigError` where there is no such family.
    """
    chosen = [family for family in families() if name in (None, family.noun(), family.key)]
    if not chosen:
        known = sorted({family.noun() for family in families()})
        raise ConfigError(f"no family {name!r}, there are {', '.join(known)}")
    for family in chosen:
        for kind in family.names():
            yield entry(family, family.member(kind))


def entry(family: type[Method], method: type[Method]) -> Entry:
    """What a method's file says of it."""
    text = " ".join((inspect.getdoc(method) or "").split())
    return Entry(family.noun(), method.kind, first_sentence(text), source(text), yaml_line(family, method), method.carries)


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence (that of `et al.` does not), or colon before a list."""
    return re.split(r"(?<!et al)(?<!e\.g)(?<!vs)\.(?= [A-Z`]|$)", text, maxsplit=1)[0].strip()


def source(text: str) -> str:
    """Where a method comes from, as its docstring says: arXiv numbers, else a repository or site, else a publication, else "own";
    empty where it says none of these."""
    if numbers := ARXIV.findall(text):
        return ", ".join(dict.fromkeys(numbers))
    for pattern in (REPOSITORY, SITE, PUBLICATION):
        if found := pattern.search(text):
            return found[0]
    return "own" if OWN.search(text) else ""


def yaml_line(family: type[Method], method: type[Method]) -> str:
    """`schedule: cosine`, or a section with what has no default."""
    needed = [field.alias or name for name, field in method.model_fields.items() if field.is_required()]
    if not needed:
        return f"{family.key}: {method.kind}"
    return f"{family.key}: {{kind: {method.kind}, {', '.join(f'{name}: …' for name in needed)}}}"


def published_systems() -> list[PublishedSystem]:
    """The systems that this stack is measured against, in the order of their ids."""
    text = (files("mmpt") / "papers.tsv").read_text(encoding="utf-8")
    return [PublishedSystem(**row) for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)]


def methods_table(family: str | None = None) -> list[tuple[str, ...]]:
    """Rows of family, kind, what it does, source, YAML, of one family or all; the first names the columns."""
    return [
        ("family", "method", "what it does", "source", "in YAML"),
        *((one.family, one.kind, one.does, one.source, one.line) for one in catalogue(family)),
    ]


def papers_table() -> list[tuple[str, ...]]:
    """Rows of published systems and what carries them: methods by family and kind, else commands, files or libraries."""
    carriers: dict[str, list[str]] = {}
    for one in catalogue():
        for name in one.carries:
            carriers.setdefault(name, []).append(f"{one.family} {one.kind}")
    return [
        ("id", "system", "status", "carried by"),
        *(
            (row.id, row.name, row.status, "; ".join([*carriers.get(row.name, ()), *filter(None, [row.by])]) or "–")
            for row in published_systems()
        ),
    ]


def markdown(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))
