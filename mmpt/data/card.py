"""The card of a set, as the hub of Hugging Face has them: what is in it, its licences, where it comes from, what was left out.

Everything in it is counted anew from the documents or stands in the manifest, which carries what a set says of itself to those
that are made of it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from mmpt.data.curate.rights import AND
from mmpt.data.lost import BAD_DATA, LostSum, read_lost
from mmpt.data.shards.manifest import Manifest, Origin, TokenManifest, read_manifest
from mmpt.data.shards.read import DocumentShards
from mmpt.data.store import Store
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError

UNSAID = "not said"
"""What stands for a licence or a language that a document does not name."""
ROWS = 40
"""Rows of a table at most; the rest is added up in one."""
REASONS = 3
"""Things shown of those that went by each rule."""
LONGEST = 600
"""Characters of an example at most."""
LICENSES = frozenset(re.findall(r"\S+", """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-
by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-
nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 epl-2.0
gfdl gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 mit mpl-2.0 odbl odc-by pddl unlicense wtfpl
"""))  # fmt: skip
"""Names of licences that the hub knows: those of SPDX in small letters."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
         (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))  # fmt: skip


@dataclass
class Tally:
    """What some documents hold. Words are what stands between spaces in their texts; transcripts count as texts alone."""

    documents: int = 0
    words: int = 0
    pictures: int = 0
    seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def cells(self) -> list[str]:
        return [f"{self.documents:,}", f"{self.words:,}", f"{self.pictures:,}", f"{self.seconds / 3600:,.3f}"]


@dataclass
class Contents:
    """What the documents of a set hold, by (source, licence, language), and what stands in their meta."""

    tallies: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    meta: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> Tally:
        return self.by(lambda key: "")[""] if self.tallies else Tally()

    def by(self, name: Any) -> dict[str, Tally]:
        """Added up by what `name` makes of (source, licence, language), most documents first."""
        found: dict[str, Tally] = {}
        for key, tally in self.tallies.items():
            found.setdefault(name(key), Tally()).add(tally)
        return dict(sorted(found.items(), key=lambda one: (-one[1].documents, one[0])))


def contents(records: Iterable[Mapping[str, Any]]) -> Contents:
    """Count documents from their JSON."""
    found = Contents()
    for record in records:
        meta = record.get("meta") or {}
        key = (str(record["source"]), str(meta.get("license") or UNSAID), str(meta.get("language") or UNSAID))
        parts = record["parts"]
        found.meta.update(meta.keys())
        found.tallies.setdefault(key, Tally()).add(Tally(
            documents=1,
            words=sum(len(part["text"].split()) for part in parts if part["type"] == "text"),
            pictures=sum(part["type"] == "image" for part in parts),
            seconds=sum(part["duration"] for part in parts if part["type"] == "speech"),
        ))  # fmt: skip
    return found


def card(folder: str, title: str = "", examples: int = 3) -> str:
    """The card of the set in `folder`, a path or a URL: Markdown under a header of YAML. Raises `DataError`."""
    manifest = read_manifest(folder)
    name = title or Store(folder).location.rpartition("/")[2]
    found, shown = _looked_at(folder, manifest, examples)
    lost = LostSum(read_lost(Store(folder)), REASONS)
    body = [
        f"# {_inline(name)}",
        _lead(manifest),
        *_held(manifest, found),
        *_made(name, manifest),
        *_left_out(manifest, lost),
        *_examples(shown),
        "## Fingerprint",
        f"`{manifest.fingerprint}`: SHA-256 of the hashes of its {len(manifest.shards):,} shards in the manifest's order.",
    ]
    return header(name, manifest, found) + "\n" + "\n\n".join(body) + "\n"


def header(title: str, manifest: Manifest, found: Contents | None) -> str:
    """The metadata of the hub. What nobody said is left out, or `unknown` where it is a licence."""
    from huggingface_hub import DatasetCardData

    licences = [UNSAID] if found is None else list(found.by(lambda key: key[1]))
    single = list(dict.fromkeys(part for one in licences for part in one.split(AND)))
    names = list(dict.fromkeys("unknown" if one == UNSAID else _license(one) for one in single))
    said = [] if found is None else found.by(lambda key: key[2])
    languages = sorted({one.lower().replace("_", "-").partition("-")[0] for one in said if one != UNSAID})
    others = [one for one in single if one != UNSAID and _license(one) == "other"]
    data = DatasetCardData(
        pretty_name=title,
        language=[one for one in languages if re.fullmatch("[a-z]{2,3}", one)] or None,
        license=names[0] if len(names) == 1 else names,
        license_name=", ".join(others) or None,
        size_categories=[next((size for most, size in SIZES if manifest.documents < most), "n>1T")],
        tags=["webdataset", "mmpt"],
        configs=[{"config_name": "default", "data_files": "shard-*.tar"}],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _license(name: str) -> str:
    plain = name.lower().replace(" ", "-")
    return plain if plain in LICENSES else "other"


def _looked_at(folder: str, manifest: Manifest, examples: int) -> tuple[Contents | None, list[Document]]:
    """What a set holds and some of its documents, evenly spaced. Of a token set what the sets hold that it was made of, while
    they are there and the same; else None."""
    if not isinstance(manifest, TokenManifest):
        shards = DocumentShards(folder)
        count = min(examples, len(shards))
        return contents(shards.records()), [shards[len(shards) * (2 * n + 1) // (2 * count)] for n in range(count)]
    found = Contents()
    for before in manifest.history:
        try:
            shards = DocumentShards(before.place)
            if shards.manifest.fingerprint != before.fingerprint:
                return None, []
            part = contents(shards.records())
        except DataError:
            return None, []
        found.meta.update(part.meta)
        for key, tally in part.tallies.items():
            found.tallies.setdefault(key, Tally()).add(tally)
    return found if manifest.history else None, []


def _lead(manifest: Manifest) -> str:
    kind = "Tokens" if isinstance(manifest, TokenManifest) else "Documents of text, pictures and speech in order"
    size = f"{manifest.documents:,} of them in {len(manifest.shards):,} shards ({manifest.bytes / 1e6:,.1f} MB)"
    return f"{kind}, {size}: tars as WebDataset has them, each with an index."


def _held(manifest: Manifest, found: Contents | None) -> Iterator[str]:
    yield "## What is in it"
    if isinstance(manifest, TokenManifest):
        yield _table(("tokens", "of"), [(f"{count:,}", name) for name, count in manifest.counts.items()])
        if found is None:
            yield "The documents that these tokens were made of are not there, so nothing is said of licences and languages."
            return
        yield "The documents that these tokens were made of, before the losses of the last step:"
    assert found is not None
    columns = ("documents", "words", "pictures", "hours of speech")
    yield _table(columns, [found.total.cells])
    for heading, place in (("Licences", 1), ("Languages", 2)):
        rows = [[name, *tally.cells] for name, tally in _first(found.by(lambda key, place=place: key[place]))]
        yield f"### {heading}"
        yield _table((heading.lower(), *columns), rows)
    yield "### Sources"
    by_all = found.by(lambda key: "\0".join(key))
    rows = [[*(name.split("\0") if "\0" in name else (name, "", "")), *tally.cells] for name, tally in _first(by_all)]
    yield _table(("source", "licence", "language", *columns), rows)
    meta = ", ".join(f"`{_inline(name)}` ({count:,})" for name, count in found.meta.most_common(ROWS))
    yield f"In the `meta` of documents stand {meta}." if meta else "Documents say nothing in their `meta`."


def _first(tallies: Mapping[str, Tally]) -> Iterator[tuple[str, Tally]]:
    rest = Tally()
    for number, (name, tally) in enumerate(tallies.items()):
        if number < ROWS:
            yield name, tally
        else:
            rest.add(tally)
    if rest.documents:
        yield f"{len(tallies) - ROWS:,} others", rest


def _made(name: str, manifest: Manifest) -> Iterator[str]:
    """Every set on the way to this one, the first ones first, with what went by which rule."""
    yield "## How it was made"
    way = [*_way(manifest.history), (name, manifest.documents, manifest.lost, manifest.built)]
    rows = [(one, _made_by(built), f"{documents:,}", _rules(lost)) for one, documents, lost, built in way]
    yield _table(("set", "made by", "documents", "left out, things by rule"), rows)
    for one, _, _, built in way:
        settings = {key: value for key, value in built.items() if key not in ("shards", "from", "chat")}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120).rstrip()
        yield f"<details><summary>{_inline(one)}</summary>\n\n{_fenced(text, 'yaml')}\n\n</details>"


def _way(history: Sequence[Origin]) -> Iterator[tuple[str, int, dict[str, int], dict[str, Any]]]:
    for one in history:
        yield from _way(one.history)
        yield one.place.rstrip("/").rpartition("/")[2], one.documents, one.lost, one.built


def _made_by(built: Mapping[str, Any]) -> str:
    if isinstance(spec := built.get("spec"), dict):
        return "build of " + ", ".join(str(source.get("kind")) for source in spec.get("sources", ()))
    return next((key for key in built if key not in ("shards", "from", "chat", "max_bytes")), "a program")


def _rules(lost: Mapping[str, int]) -> str:
    return ", ".join(f"{rule}: {count:,}" for rule, count in lost.items()) or "nothing"


def _left_out(manifest: Manifest, lost: LostSum) -> Iterator[str]:
    yield "## What was left out"
    if not lost.counts:
        yield "Nothing in the last step."
        return
    yield "In the last step, with the first of each rule; `lost.jsonl` lists all."
    for rule, count in sorted(manifest.lost.items()):
        meaning = "could not be read" if rule == BAD_DATA else "went by a rule"
        listed = "\n".join(f"- {_inline(f'{one.item}: {one.reason}')}" for one in lost.examples.get(rule, ()))
        yield f"**{_inline(rule)}**: {count:,} {meaning}\n\n{listed}"


def _examples(documents: Sequence[Document]) -> Iterator[str]:
    if documents:
        yield "## Examples"
    for document in documents:
        text = "\n".join(map(_part, document.parts))
        cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
        yield f"`{_inline(document.id)}`, {len(document.parts)} parts\n\n{_fenced(cut)}"


def _part(part: Text | Image | Speech) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Image):
        return f"[picture, {part.width} × {part.height}{': ' + part.alt if part.alt else ''}]"
    return f"[speech, {part.duration:.2f} s{': ' + part.text if part.text else ''}]"


def _inline(text: str) -> str:
    """Text of somebody else in a line of Markdown: it shows as it is, and begins nothing."""
    line = re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
    return line.encode("utf-8", "backslashreplace").decode()


def _fenced(text: str, language: str = "text") -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [[_inline(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *body])
