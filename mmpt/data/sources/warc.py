"""Documents from web archives: the main content of each page with its pictures in place.

sources: [{kind: warc, folder: crawl/, downloads: img2dataset/}]
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urldefrag, urljoin

from mmpt.data.formats.downloads import check_downloads, opened
from mmpt.data.formats.html_text import decoded
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.main_content import main_content
from mmpt.data.formats.references import Picture, embedded
from mmpt.data.formats.warc import Record, picture_at, read_records
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.parts import image_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".warc", ".warc.gz", ".wet", ".wet.gz", ".warc.zst")
NOT_CRAWLED = "not in the archive"
"""The rule under which pictures are listed that a crawl did not fetch: they lie elsewhere by its design."""


class Warc(NamedSource):
    """Pages of web archives without their boilerplate, by trafilatura (Barbaresi 2021, "Trafilatura: A Web Scraping Library",
    ACL 2021), pictures in place, as OBELICS (arXiv:2306.16527) was made from Common Crawl.

    A picture is taken from the record of its address in the same file, else from `downloads`. Text
    of WET files is taken as it is.
    """

    folder: str
    """Folder or URL of which every .warc, .warc.gz and .warc.wet.gz is read."""
    downloads: str = ""
    """Folder that img2dataset filled with the pictures' addresses."""
    precise: bool = False
    """Whether less text of doubtful sort is kept (trafilatura's `favor_precision`)."""
    language: str = ""
    """Code of the language of the documents, for their meta; empty: what the archive or the page says."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[str]]:
        """One for each archive. Raises `ConfigError` where there is none."""
        check_downloads(self.downloads)
        files = files_of(self.folder)
        found = [Unit(name, size) for name, size in files.items() if name.endswith(SUFFIXES)]
        if not found:
            raise ConfigError(f"{self.folder}: no {', '.join(SUFFIXES)} in it")
        return found

    def read(self, unit: Unit[str]) -> Documents:
        """One document for each page. A damaged record is listed, as are pages without main content and pictures that are in
        no record; how many pictures go with the boilerplate of a page is listed once for it, other records once for all."""
        store, source = Store(self.folder), self.source_name(self.folder)
        pictures: dict[str, int] = {}
        for one in read_records(store, unit.what, contents=False):
            if isinstance(one, Record) and one.kind.startswith("image/") and one.status == 200:
                pictures.setdefault(one.url, one.start)
        others: Counter[str] = Counter()
        for one in read_records(store, unit.what):
            if isinstance(one, Lost):
                yield one
            elif one.data is None:
                others[one.kind or "of no type" if one.status == 200 else f"status {one.status}"] += 1
            else:
                where = f"{store.path(unit.what)}, byte {one.start}: {one.url}"
                document_id = f"{source}/{unit.what}/{one.start}"
                find = self._finder(store, unit.what, pictures, one.url)
                yield from self._document(source, where, document_id, one, find)
        others = Counter({kind: number for kind, number in others.items() if not kind.startswith("image/")})
        if others:
            told = ", ".join(f"{number} {kind}" for kind, number in others.most_common(20))
            yield Lost(store.path(unit.what), f"{others.total()} records that are no pages: {told}", whole=False, rule="no page")

    def _document(self, source: str, where: str, document_id: str, record: Record, find: Callable[[Picture], Image]) -> Documents:
        try:
            text = decoded(record.data or b"", record.charset)
            if record.kind == "text/plain":
                title, language, blocks, gone = "", "", iter([text.strip()] if text.strip() else []), 0
            else:
                title, language, blocks, gone = main_content(Page(text), self.precise)
        except (DataError, RecursionError) as problem:
            yield Lost(where, str(problem), document_id)
            return
        if gone:
            told = f"{gone} picture{'s' if gone > 1 else ''} outside of the main content"
            yield Lost(where, told, document_id, whole=False, rule="boilerplate")
        parts = yield from kept(_parts(blocks, where, document_id, find))
        if not any(isinstance(part, Text) for part in parts):
            yield Lost(where, "no text that is the page's own", document_id, rule="boilerplate")
            return
        language = self.language or record.language or language
        meta = {"url": record.url, "title": title, "language": language, "license": self.license}
        yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})

    def _finder(self, store: Store, name: str, pictures: dict[str, int], page: str) -> Callable[[Picture], Image]:
        downloads = opened(self.downloads) if self.downloads else None

        def data(target: str) -> bytes:
            if target[:5].lower() == "data:":
                return embedded(target)
            try:
                url = urldefrag(urljoin(page, re.sub(r"[\t\n\r]", "", target.strip()))).url
            except ValueError as problem:
                raise DataError(f"no reference ({problem})") from None
            if url in pictures:
                return picture_at(store, name, pictures[url])
            if downloads is None:
                raise _NotCrawled("no record of the archive holds it")
            return downloads.read(url)

        def find(picture: Picture) -> Image:
            problems: list[DataError] = []
            for target in picture.targets:
                try:
                    image = image_part(data(target), picture.alt)
                except DataError as problem:
                    problems.append(problem)
                    continue
                if image.width * image.height > 1 or len(picture.targets) == 1:
                    return image
            raise problems[0] if problems else DataError("only a stand-in of one pixel")

        return find


class _NotCrawled(DataError):
    """A picture that the crawl did not fetch."""


def _parts(
    blocks: Iterator[str | Picture], where: str, document_id: str, find: Callable[[Picture], Image]
) -> Iterator[Text | Image | Lost]:
    for block in blocks:
        if isinstance(block, str):
            yield Text(block)
            continue
        try:
            yield find(block)
        except DataError as problem:
            rule = NOT_CRAWLED if isinstance(problem, _NotCrawled) else ""
            part = "" if rule else "image"
            yield Lost(f"{where}: {block.short}", str(problem), document_id, whole=False, rule=rule, part=part)
