"""Documents from a tree of Markdown files, each with its pictures in place.

sources: [{kind: markdown, folder: my/tutorials, language: en}]
"""

import re
from pathlib import PurePosixPath
from typing import Literal

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.markdown_blocks import markdown_blocks
from mmpt.data.sources.references import Picture, referred
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".md", ".markdown")
MAX_BYTES = 32 << 20


class MarkdownConfig(SourceSchema):
    """Every file below `folder` whose path matches the regular expression `files`, in the order of their names and numbers.

    The text between pictures stays Markdown. Block-level HTML tags and kramdown's attribute lists vanish, as do lines that
    match one of the regular expressions `drop_lines` as a whole. `language` names it; `language_from` is an expression with a
    group "language" that finds it in the path.
    """

    kind: Literal["markdown"] = "markdown"
    folder: str
    files: str = r".*\.(md|markdown)"
    drop_lines: tuple[str, ...] = ()
    language: str = ""
    language_from: str = ""
    license: str = ""

    @pydantic.field_validator("files")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        return _compiled(value).pattern

    @pydantic.field_validator("language_from")
    @classmethod
    def _finds_a_language(cls, value: str) -> str:
        if value and "language" not in _compiled(value).groupindex:
            raise ValueError("expected a group (?P<language>…) in it")
        return value

    @pydantic.field_validator("drop_lines")
    @classmethod
    def _are_expressions(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_compiled(value).pattern for value in values)


def units(config: MarkdownConfig) -> list[Unit]:
    """Runs of files, one where they are long. Raises `ConfigError` where there is no folder, or no such file in it."""
    try:
        files = Store(config.folder).files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    found = sorted((name for name in files if re.fullmatch(config.files, name, re.DOTALL)), key=_natural)
    if not found:
        raise ConfigError(f"{config.folder}: no file matches {config.files!r}")
    # What the pictures weigh is known only once the text is read: on average, each file's share of all others.
    pictures = sum(size for name, size in files.items() if PurePosixPath(name).suffix.lower() not in SUFFIXES)
    return grouped(((name, files[name] + pictures // len(found)) for name in found), max_bytes=1 << 20)


def read(config: MarkdownConfig, unit: Unit) -> Documents:
    """One document for each file. A picture that is missing, damaged or elsewhere is listed, and the rest stays in order."""
    store = Store(config.folder)
    for name in unit.what:
        document_id = f"{source_name(config, config.folder)}/{name}"
        try:
            if store.size(name) > MAX_BYTES:
                raise DataError(f"{store.path(name)}: of {store.size(name)} bytes, at most {MAX_BYTES} are read")
            text = store.read(name).decode("utf-8-sig")
        except (DataError, UnicodeDecodeError) as problem:
            yield Lost(store.path(name), str(problem), document_id)
            continue
        parts, lost = [], []
        for block in markdown_blocks(text, config.drop_lines):
            if isinstance(block, Picture):
                try:
                    parts.append(referred(store, name, block))
                except DataError as problem:
                    lost.append(Lost(f"{store.path(name)}, line {block.line}: {block.short}", str(problem), document_id, False))
            else:
                parts.append(Text(block))
        yield from lost
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id)
            continue
        meta = {"path": name, "language": _language(config, name), "license": config.license}
        source = source_name(config, config.folder)
        yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _language(config: MarkdownConfig, name: str) -> str:
    found = re.search(config.language_from, name) if config.language_from else None
    return found["language"] if found else config.language


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key by which step_10 comes after step_9."""
    return [(not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in re.split(r"(\d+)", name)]


def _compiled(expression: str) -> re.Pattern:
    try:
        return re.compile(expression)
    except re.error as problem:
        raise ValueError(f"{expression!r} is no regular expression ({problem})") from None
